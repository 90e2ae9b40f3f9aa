"""Controls: cases whose outcome is known, run in every audit."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from auditor.attack import BY_NAME, Attack, GradientMatching, LinearInversion, distance
from auditor.federated import LocalClient, observe
from auditor.model.forward_pass import observe as read
from auditor.model.layers import find_layers
from auditor.model.video import VideoModel
from auditor.pipeline.context import Context, Observed
from auditor.pipeline.progress import Silent
from auditor.pipeline.run_attack import run_attack
from auditor.pipeline.workers import Task, make_ahead
from auditor.probe import moving_texture
from auditor.records import (
    Budget,
    Ceiling,
    Clock,
    FederatedProtocol,
    Fidelity,
    InputSpec,
    Knowledge,
    Reconstruction,
    Target,
    View,
    counting,
    record,
)
from auditor.results.audit import Control
from auditor.score import psnr

# float32 gradients of one Linear leave about 120 dB; half of that is still out of reach for anything but a solution.
CLOSED_FORM_DB = 60.0
# Half the error of grey.
OPTIMISER_GAIN_DB = 6.0
_CLASSES = 10
# Generous: the steps are what counts, and they are one to ten reference seconds.
_MOST_SECONDS = 60.0
# Simulating the client twice on the same clips differs by rounding alone: 0 on a CPU, up to 1e-5 with CUDA atomics.
_SAME_UPDATE = 1e-4


class _Centred(nn.Module):
    """Pixels of mean about 0 and deviation about 1, as video nets are fed."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - 0.5) * 4.0


@record
class _Leak:
    """A net that is known to leak to an attack, by the steps that are enough for it, and what a failure means."""

    name: str
    net: Callable[[], nn.Sequential]
    steps: int
    why: str


def _convolutions() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(3, 12, 3, padding=1, stride=(1, 2, 2)),
        nn.GELU(),
        nn.Conv3d(12, 24, 3, padding=1, stride=(2, 1, 1)),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(24 * 2 * 8 * 8, 10),
    )


# Measured over five seeds of the net and the restarts of every preset; grey scores 15.6 dB. The searches decide what
# an audit finds on most nets, so each of them is tried as the preset runs it.
PLANTED = {
    "gradient-matching": _Leak(
        name="gradient matching on a tiny net known to leak",
        net=_convolutions,
        steps=200,
        why="if the optimiser cannot recover a clip known to be recoverable, its failures elsewhere mean nothing",
    ),
    "layer-recursion": _Leak(
        name="layer-wise recursion on a tiny net that it can be solved for",
        net=_convolutions,
        steps=100,
        why="if solving layer by layer finds no clip where the equations are enough, its failures mean nothing",
    ),
    "least-squares-matching": _Leak(
        name="least squares on a tiny net known to leak",
        net=_convolutions,
        steps=400,
        why="if least squares finds no clip that the update determines, its failures elsewhere mean nothing",
    ),
    "feature-inversion": _Leak(
        name="feature inversion on a tiny net whose features are exact",
        net=_convolutions,
        steps=400,
        why="if a clip is not found from features that determine it, failures elsewhere mean nothing",
    ),
}


@counting()
def positive_controls(
    device: torch.device,
    attacks: Sequence[Attack],
    seconds: float,
    progress: Callable[[float], None],
    ceiling: Ceiling | None = None,
) -> tuple[Control, ...]:
    """Run cases with a known outcome through the attacks: two closed forms, and planted leaks for the searches.

    `attacks` are the preset's own; each search among them that a leak is known for is tried as it stands, gradient
    matching in any case. Searches take a fixed number of steps; where `seconds` of work do not hold them, or they would
    end after the `ceiling`, `passed` is None.
    """
    clock, ceiling = Clock(seconds), ceiling or Ceiling()
    searches = {a.name: a for a in (GradientMatching(), *attacks) if a.name in PLANTED}
    tried = [partial(_searched, device, a, PLANTED[n], clock, lambda fraction: None) for n, a in searches.items()]
    ahead = [Task(run=partial(form, device)) for form in (_closed_form, _batch)] + [Task(run=run) for run in tried]
    make_ahead(ahead, Silent(), ceiling, split=False)
    closed = (_closed_form(device), _batch(device))
    progress(0.2)
    made = []
    share = 0.8 / len(searches)
    for k, (name, attack) in enumerate(searches.items()):
        part = _part(progress, 0.2 + k * share, share)
        made.append(_search(device, attack, PLANTED[name], clock, part, ceiling))
    return (*closed, *made)


def _part(progress: Callable[[float], None], start: float, share: float) -> Callable[[float], None]:
    return lambda fraction: progress(start + share * fraction)


def simulation_control(context: Context, observed: Observed) -> Control:
    """The objective at the truth must be zero: the client, run again on its own clips, sends the same update."""
    again = observe(context.client_of(observed.probe), observed.clips, context.client.targets(observed.labels))
    off = distance(again.gradients, observed.update.gradients)
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
    score, _, _ = _attack(torch_net, spec, LinearInversion(), device, Budget(seconds=_MOST_SECONDS, steps=1))
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
    budget = Budget(seconds=_MOST_SECONDS, steps=1)
    score, _, _ = _attack(net, spec, BY_NAME["spear"], device, budget, labels=(3, 1, 4, 1, 5, 9, 2, 6))
    return Control(
        name="closed form on a Linear with ReLU that sees eight clips",
        kind="positive",
        passed=score >= CLOSED_FORM_DB,
        measured=f"{score:.1f} dB for the worst of the eight",
        expected=f"at least {CLOSED_FORM_DB:.0f} dB",
        why="the clips can be told apart exactly; if that fails, a batch that was not recovered means nothing",
        attack="spear",
    )


def _search(
    device: torch.device,
    attack: Attack,
    leak: _Leak,
    clock: Clock,
    progress: Callable[[float], None],
    ceiling: Ceiling,
) -> Control:
    late = ceiling.too_late("controls", leak.name)
    passed, measured = (None, f"not run: {late.reason}") if late else _searched(device, attack, leak, clock, progress)
    return Control(
        name=leak.name,
        kind="positive",
        passed=passed,
        measured=measured,
        expected=f"at least {OPTIMISER_GAIN_DB:.0f} dB over grey",
        why=leak.why,
        attack=attack.name,
    )


def _searched(
    device: torch.device, attack: Attack, leak: _Leak, clock: Clock, progress: Callable[[float], None]
) -> tuple[bool | None, str]:
    """Return whether the leak was found, None where the budget did not hold the search, and what was measured."""
    spec = InputSpec(frames=4, channels=3, height=16, width=16, layout="NCTHW")
    budget = Budget(seconds=min(_MOST_SECONDS, max(0.0, clock.left)), steps=leak.steps, progress=progress)
    score, blind, seconds = _attack(_seeded(leak.net), spec, attack, device, budget)
    gained = score - blind >= OPTIMISER_GAIN_DB
    # Where the budget ended the search, a low score would say nothing about it.
    if not gained and seconds >= 0.9 * budget.seconds:
        return None, f"not run: {budget.seconds:.1f} s of work do not hold its {leak.steps} steps"
    return gained, f"{score:.1f} dB, grey scores {blind:.1f} dB"


def _attack(
    net: nn.Sequential,
    spec: InputSpec,
    attack: Attack,
    device: torch.device,
    budget: Budget,
    labels: tuple[int, ...] = (3,),
) -> tuple[float, float, float]:
    """Return the PSNR of the attack and of mid grey for the clip that is worst off, in dB, and the seconds taken.

    An attack that breaks or does not apply where it is known to scores what grey does.
    """
    target = _target(net, spec, device)
    client = LocalClient(target.model, FederatedProtocol(sent=tuple(target.parameters), batch=len(labels)))
    truths = torch.stack([moving_texture(spec, seed=1 + i).clip for i in range(len(labels))]).to(device)
    view = View(
        target=target,
        client=client,
        update=observe(client, truths, client.targets(labels)),
        knowledge=Knowledge(clip_shape=spec.clip_shape, batch=len(labels), classes=_CLASSES, labels=labels),
    )
    clock = Clock(budget.seconds)
    result = run_attack(attack, view, budget, seed=0)
    blind = min(float(psnr(truth, torch.full_like(truth, 0.5))) for truth in truths)
    if not isinstance(result, Reconstruction):
        return blind, blind, clock.used
    best = (max(float(psnr(truth, made)) for made in result.clips.to(device)) for truth in truths)
    return min(*best, 200.0), blind, clock.used


def _target(net: nn.Sequential, spec: InputSpec, device: torch.device) -> Target:
    net = net.to(device).eval()
    model = VideoModel(net, spec)
    seen = read(model, torch.rand(1, *spec.clip_shape, device=device)).readings
    return Target(
        name="control",
        source="built in",
        format="pytorch",
        sha256="",
        model=model,
        input=spec,
        classes=_CLASSES,
        layers=find_layers(net, dict(model.named_parameters()), seen),
        operators={},
        fidelity=Fidelity(
            parity_max_error=None, gradient_check=None, double_backward=True, batchnorm="none", batch="dynamic"
        ),
    )


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
