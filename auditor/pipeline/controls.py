"""Controls: cases whose outcome is known, run in every audit."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from auditor.attack import BY_NAME, Attack, GradientMatching, LinearInversion, distance
from auditor.federated import LocalClient, observe
from auditor.model.parameter_values import with_parameters
from auditor.pipeline.context import Context, Observed
from auditor.probe import moving_texture
from auditor.records import (
    BatchNormMode,
    Budget,
    Clips,
    Clock,
    FederatedProtocol,
    Fidelity,
    InputSpec,
    Knowledge,
    Layer,
    Logits,
    NormInput,
    Reconstruction,
    Target,
    View,
)
from auditor.results.audit import Control
from auditor.score import psnr

# float32 gradients of one Linear leave about 120 dB; half of that is still out of reach for anything but a solution.
CLOSED_FORM_DB = 60.0
# Measured over ten seeds of the net: 28.0 to 30.3 dB, grey 15.6 dB. 6 dB over grey is half the error.
OPTIMISER_GAIN_DB = 6.0
_OPTIMISER_STEPS = 200
# Generous: the steps are what counts, and they take one to three seconds.
_CEILING = 60.0
# Simulating the client twice on the same clips differs by rounding alone: 0 on a CPU, up to 1e-5 with CUDA atomics.
_SAME_UPDATE = 1e-4


class _Tiny(nn.Module):
    """A net with a known leak, wrapped as a public model."""

    def __init__(self, net: nn.Sequential, linear_name: str) -> None:
        super().__init__()
        self.net = net
        self._linear = linear_name

    def forward(self, clips: Clips) -> Logits:
        return self.net(clips.transpose(1, 2))

    def with_parameters(self, values: Mapping[str, torch.Tensor]) -> AbstractContextManager[None]:
        return with_parameters(self, values)

    def batchnorm(self, mode: BatchNormMode) -> None:
        """It has none."""

    def outputs(self, clips: Clips) -> Logits:
        return self(clips)

    def dropout(self, on: bool) -> None:
        """It has none."""

    def statistics(self) -> AbstractContextManager[list[NormInput]]:
        """It has no BatchNorm."""
        return nullcontext([])

    def inputs_of(self, parameter: str, clips: Clips) -> tuple[torch.Tensor, torch.Tensor]:
        if not parameter.startswith(self._linear):
            raise LookupError(parameter)
        at = int(self._linear.rsplit(".", 1)[1])
        x = self.net[:at](clips.transpose(1, 2))
        return x, self.net[at](x)


class _Centred(nn.Module):
    """Pixels of mean about 0 and deviation about 1, as video nets are fed."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - 0.5) * 4.0


def positive_controls(device: torch.device, seconds: float, progress: Callable[[float], None]) -> tuple[Control, ...]:
    """Run cases with a closed form, of one clip and of a batch, and one tiny net known to leak, through the attacks.

    The last takes a fixed number of steps; when `seconds` do not hold them, its `passed` is None.
    """
    clock = Clock(seconds)
    closed = (_closed_form(device), _batch(device))
    progress(0.2)
    return (*closed, _optimiser(device, clock, lambda f: progress(0.2 + 0.8 * f)))


def simulation_control(context: Context, observed: Observed) -> Control:
    """The objective at the truth must be zero: the client, run again on its own clips, sends the same update."""
    again = context.client_of(observed.probe)(observed.clips, context.client.targets(observed.labels))
    off = distance(again, dict(observed.update.gradients))
    return Control(
        name="the simulated client reproduces its own update",
        kind="simulation",
        passed=off <= _SAME_UPDATE,
        measured=f"relative difference {off:.1e}",
        expected=f"at most {_SAME_UPDATE:.0e}",
        why="otherwise the model is random or changes while it runs, and no attack on it means anything",
    )


def _closed_form(device: torch.device) -> Control:
    spec = InputSpec(frames=4, channels=3, height=16, width=16, layout="NCTHW")
    torch_net = _seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4 * 3 * 16 * 16, 10)))
    score, _, _ = _attack(torch_net, "net.1", spec, LinearInversion(), device, Budget(seconds=_CEILING, steps=1))
    return Control(
        name="closed form on a Linear that sees one clip",
        kind="positive",
        passed=score >= CLOSED_FORM_DB,
        measured=f"{score:.1f} dB",
        expected=f"at least {CLOSED_FORM_DB:.0f} dB",
        why="the clip is determined exactly; anything less means this machine or build computes wrongly",
        attack="linear-input",
    )


def _batch(device: torch.device) -> Control:
    spec = InputSpec(frames=4, channels=3, height=16, width=16, layout="NCTHW")
    net = _seeded(
        lambda: nn.Sequential(_Centred(), nn.Flatten(), nn.Linear(4 * 3 * 16 * 16, 300), nn.ReLU(), nn.Linear(300, 10))
    )
    budget = Budget(seconds=_CEILING, steps=1)
    score, _, _ = _attack(net, "net.2", spec, BY_NAME["spear"], device, budget, labels=(3, 1, 4, 1, 5, 9, 2, 6))
    return Control(
        name="closed form on a Linear with ReLU that sees eight clips",
        kind="positive",
        passed=score >= CLOSED_FORM_DB,
        measured=f"{score:.1f} dB for the worst of the eight",
        expected=f"at least {CLOSED_FORM_DB:.0f} dB",
        why="the clips can be told apart exactly; if that fails, a batch that was not recovered means nothing",
        attack="spear",
    )


def _optimiser(device: torch.device, clock: Clock, progress: Callable[[float], None]) -> Control:
    spec = InputSpec(frames=4, channels=3, height=16, width=16, layout="NCTHW")
    net = _seeded(
        lambda: nn.Sequential(
            nn.Conv3d(3, 12, 3, padding=1, stride=(1, 2, 2)),
            nn.GELU(),
            nn.Conv3d(12, 24, 3, padding=1, stride=(2, 1, 1)),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(24 * 2 * 8 * 8, 10),
        )
    )
    budget = Budget(seconds=min(_CEILING, max(0.0, clock.left)), steps=_OPTIMISER_STEPS, progress=progress)
    score, blind, steps = _attack(net, "net.5", spec, GradientMatching(), device, budget)
    # On a machine so slow that steps were saved, a low score would say nothing about the optimiser.
    whole = steps >= _OPTIMISER_STEPS or score - blind >= OPTIMISER_GAIN_DB
    measured = f"{score:.1f} dB, grey scores {blind:.1f} dB"
    return Control(
        name="gradient matching on a tiny net known to leak",
        kind="positive",
        passed=score - blind >= OPTIMISER_GAIN_DB if whole else None,
        measured=measured if whole else f"not run: {budget.seconds:.1f} s do not hold its {_OPTIMISER_STEPS} steps",
        expected=f"at least {OPTIMISER_GAIN_DB:.0f} dB over grey",
        why="if the optimiser cannot recover a clip known to be recoverable, its failures elsewhere mean nothing",
        attack="gradient-matching",
    )


def _attack(
    net: nn.Sequential,
    linear: str,
    spec: InputSpec,
    attack: Attack,
    device: torch.device,
    budget: Budget,
    labels: tuple[int, ...] = (3,),
) -> tuple[float, float, int]:
    """Return the PSNR of the attack and of mid grey for the clip that is worst off, in dB, and the steps taken."""
    model = _Tiny(net, linear).to(device).eval()
    names = tuple(n for n, _ in model.named_parameters())
    protocol = FederatedProtocol(sent=names, batch=len(labels))
    client = LocalClient(model, protocol)
    truths = torch.stack([moving_texture(spec, seed=1 + i).clip for i in range(len(labels))]).to(device)
    owned = tuple(n for n in names if n.startswith(linear))
    layer = Layer(
        index=0,
        name=linear,
        kind="linear",
        parameters=owned,
        elements=sum(dict(model.named_parameters())[n].numel() for n in owned),
        rows=1,
    )
    target = Target(
        name="control",
        source="built in",
        format="pytorch",
        sha256="",
        model=model,
        input=spec,
        classes=10,
        layers=(layer,),
        operators={},
        fidelity=Fidelity(
            parity_max_error=None, gradient_check=None, double_backward=True, batchnorm="none", batch="dynamic"
        ),
    )
    view = View(
        target=target,
        client=client,
        update=observe(client, truths, client.targets(labels)),
        knowledge=Knowledge(clip_shape=spec.clip_shape, batch=len(labels), classes=10, labels=labels),
    )
    result = attack.invert(view, budget, seed=0)
    blind = min(float(psnr(truth, torch.full_like(truth, 0.5))) for truth in truths)
    if not isinstance(result, Reconstruction):
        return blind, blind, 0
    best = (max(float(psnr(truth, made)) for made in result.clips) for truth in truths)
    return min(*best, 200.0), blind, result.steps


def _seeded(make: Callable[[], nn.Sequential]) -> nn.Sequential:
    """Build a net with fixed weights and leave the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def failed(controls: tuple[Control, ...]) -> tuple[str, ...]:
    """Names of the positive and simulation controls that did not hold."""
    return tuple(c.name for c in controls if c.kind in ("positive", "simulation") and c.passed is False)


def not_run(controls: tuple[Control, ...]) -> tuple[str, ...]:
    """Names of the positive controls for which there was no time."""
    return tuple(c.name for c in controls if c.kind == "positive" and c.passed is None)


__all__ = ["Control", "failed", "not_run", "positive_controls", "simulation_control"]
