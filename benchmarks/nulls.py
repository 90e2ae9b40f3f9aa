"""Scans of updates that carry nothing of the clip they are scored against: what ends above NOT SHOWN is a false alarm.

Usage: python benchmarks/nulls.py [--runs 201] [--first 0] [--steps 60] [--json]

Three kinds in turn: noise in place of the gradient (of its size, tensor by tensor), another clip's update, and a net
whose sent layers all lie above a unit that is dead. Nets and their weights, clips, labels and noise change with the
run. Attacks, scores, null controls and the verdict are those of a scan, with few steps; positive controls and exposure
are left out, as they look at no finding, and so are attackers who hold frames of the scene. Labels count under noise
alone: updates of the two other kinds hold one. The interval is Clopper and Pearson's (95%).
"""

import argparse
import json
import resource
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from scipy.stats import beta
from torch import Tensor, nn

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from auditor.attack import PRESETS  # noqa: E402
from auditor.attack.labels.restoration import restore_labels  # noqa: E402
from auditor.model.forward_pass import observe as read  # noqa: E402
from auditor.model.layers import find_layers  # noqa: E402
from auditor.model.video import VideoModel  # noqa: E402
from auditor.pipeline.context import Context, Observed, observe_probes, set_up, unit_seed, view_of  # noqa: E402
from auditor.pipeline.deep.feature_maps import feature_maps  # noqa: E402
from auditor.pipeline.documents.course import course_of  # noqa: E402
from auditor.pipeline.findings import label_finding, make_findings  # noqa: E402
from auditor.pipeline.membership import ask_membership  # noqa: E402
from auditor.pipeline.pairing import alike  # noqa: E402
from auditor.pipeline.run_attack import run_attack  # noqa: E402
from auditor.pipeline.units import Ran, plan, unit_view  # noqa: E402
from auditor.probe import Galleries, canary, shipped_probes  # noqa: E402
from auditor.records import (  # noqa: E402
    Budget,
    Clock,
    FederatedProtocol,
    Fidelity,
    InputSpec,
    Probe,
    Reconstruction,
    Target,
)
from auditor.score import Grade, decide  # noqa: E402

SPEC = InputSpec(frames=4, channels=3, height=16, width=16, layout="NCTHW")
VALUES = 4 * 3 * 16 * 16
KINDS = ("noise", "another clip", "dead unit")
SECONDS = 30.0
CLIPS = 3
# Attackers who hold a frame are judged by null units of their own, which cost as much again.
BATTERY = replace(PRESETS["fast"], attacks=tuple(a for a in PRESETS["fast"].attacks if not a.frames_of_scene))


class Dead(nn.Module):
    """A unit whose output is zero for every clip."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x - 1e4)


class Frames(nn.Module):
    """A convolution on every frame, and a GRU over its features."""

    def __init__(self, dead: bool, classes: int) -> None:
        super().__init__()
        self.below = nn.Conv2d(3, 6, 3, 4, 1)
        self.between = Dead() if dead else nn.GELU()
        self.above, self.head = nn.GRU(96, 12, batch_first=True), nn.Linear(12, classes)

    def forward(self, clips: Tensor) -> Tensor:
        x = self.between(self.below(clips.transpose(1, 2).flatten(0, 1)))
        return self.head(self.above(x.flatten(1).unflatten(0, (len(clips), -1)))[0][:, -1])


class Tokens(nn.Module):
    """Tubelets of 2x4x4 with positions, one block, and a head on the mean."""

    def __init__(self, dead: bool, classes: int) -> None:
        super().__init__()
        self.below = nn.Conv3d(3, 48, (2, 4, 4), (2, 4, 4))
        self.between = Dead() if dead else nn.Identity()
        self.position = nn.Parameter(0.02 * torch.randn(1, 32, 48))
        self.above = nn.TransformerEncoderLayer(48, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True)
        self.head = nn.Linear(48, classes)

    def forward(self, clips: Tensor) -> Tensor:
        x = self.between(self.below(clips).flatten(2).transpose(1, 2))
        return self.head(self.above(x + self.position).mean(1))


def _mlp(dead: bool, classes: int) -> nn.Module:
    below = [nn.Flatten(), nn.Linear(VALUES, 24)]
    return nn.Sequential(*below, Dead() if dead else nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, classes))


def _linear(dead: bool, classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), Dead() if dead else nn.Identity(), nn.Linear(VALUES, classes))


def _flat(dead: bool, classes: int) -> nn.Module:
    below = nn.Conv3d(3, 8, 3, 2, 1)
    above = nn.Conv3d(8, 12, 3, (1, 2, 2), 1)
    between = Dead() if dead else nn.GELU()
    return nn.Sequential(below, between, above, nn.GELU(), nn.Flatten(), nn.Linear(12 * 2 * 4 * 4, classes))


def _pooled(dead: bool, classes: int) -> nn.Module:
    below = nn.Conv3d(3, 8, 3, 2, 1)
    above = nn.Conv3d(8, 12, 3, (1, 2, 2), 1)
    between = Dead() if dead else nn.ReLU()
    return nn.Sequential(
        below, between, above, nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(12, classes)
    )


NETS: dict[str, Callable[[bool, int], nn.Module]] = {
    "linear": _linear,
    "mlp": _mlp,
    "flat": _flat,
    "pooled": _pooled,
    "frames": Frames,
    "tokens": Tokens,
}


def context_of(net: nn.Module, classes: int, seed: int, *, above: bool) -> Context:
    """Return a net and its client; with `above` only what comes after the dead unit is sent."""
    model = VideoModel(net.eval(), SPEC)
    seen = read(model, torch.rand(1, *SPEC.clip_shape)).readings
    target = Target(
        name="null", source="benchmark", format="pytorch", sha256="", model=model, input=SPEC, classes=classes,
        layers=find_layers(net, dict(model.named_parameters()), seen), operators={},
        fidelity=Fidelity(
            parity_max_error=None, gradient_check=None, double_backward=True, batchnorm="none", batch="dynamic"
        ),
    )  # fmt: skip
    first = [n for n in target.parameters if n.startswith(("below.", "0.weight", "0.bias", "1.weight", "1.bias"))]
    below = first if above and len(first) < len(target.parameters) - 1 else []
    return set_up(target, FederatedProtocol(frozen=tuple(below)), torch.device("cpu"), seed)


def emptied(context: Context, observed: Sequence[Observed], kind: str, seed: int) -> tuple[Observed, ...]:
    """Return what the server sees in place of the updates of these clips."""
    if kind == "dead unit":
        return tuple(observed)
    if kind == "noise":
        random = torch.Generator().manual_seed(seed)
        return tuple(_with(context, o, _noise(o, random)) for o in observed)
    foreign = [_foreign(o, observed) for o in observed]
    return tuple(_with(context, o, dict(f.update.gradients)) for o, f in zip(observed, foreign, strict=True))


def _noise(observed: Observed, random: torch.Generator) -> dict[str, Tensor]:
    sent = observed.update.gradients
    return {
        n: torch.randn(g.shape, generator=random) * g.square().mean().sqrt().clamp_min(1e-8) for n, g in sent.items()
    }


def _foreign(own: Observed, observed: Sequence[Observed]) -> Observed:
    place = observed.index(own)
    after = (*observed[place + 1 :], *observed[:place])
    return next(o for o in after if not alike(o.probe, own.probe))


def _with(context: Context, observed: Observed, gradients: dict[str, Tensor]) -> Observed:
    made = replace(observed, update=replace(observed.update, gradients=gradients))
    return replace(made, guess=restore_labels(view_of(context, replace(made, guess=None))))


def _probes(seed: int) -> tuple[Probe, ...]:
    """Return clips of different scenes, drawn from those that ship, and a canary."""
    every = shipped_probes(SPEC)
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(seed)).tolist()
    return (*(every[i] for i in order[:CLIPS]), canary(SPEC, seed))


def run(number: int, steps: int) -> dict[str, object]:
    """Scan one update that carries nothing, and tell what was found."""
    kind, name = KINDS[number % len(KINDS)], list(NETS)[number // len(KINDS) % len(NETS)]
    classes = (2, 10)[number // (len(KINDS) * len(NETS)) % 2]
    torch.manual_seed(number)
    net = NETS[name](kind == "dead unit", classes)
    context = context_of(net, classes, number, above=kind == "dead unit")
    observed = emptied(context, observe_probes(context, _probes(number)), kind, number)
    galleries = Galleries(SPEC, [o.probe for o in observed])
    made = [
        Ran(unit=unit, result=run_attack(unit.attack, unit_view(context, observed, unit), Budget(
            seconds=SECONDS, steps=1 if unit.attack.closed_form else steps), unit_seed(number, unit.attack.name)))
        for unit in plan(BATTERY, observed)
    ]  # fmt: skip
    ran = [r for r in made if isinstance(r.result, Reconstruction)]
    findings = make_findings(context, observed, ran, galleries)
    labels = label_finding(observed, classes) if kind == "noise" else None
    membership = ask_membership(context, observed, Clock(SECONDS), 0.01)
    maps = feature_maps(context, observed, ran)
    course = course_of(
        findings, labels, membership, (), None, None, failed_controls=(), untested_controls=(), maps=maps
    )
    raised = [f"{f.attack.name} {f.grade.name}" for f in findings if f.counts and f.grade > Grade.NOT_SHOWN]
    raised += [f"labels {labels.grade.name}"] if labels and labels.grade > Grade.NOT_SHOWN else []
    raised += ["frame membership"] if getattr(membership, "grade", Grade.NOT_SHOWN) > Grade.NOT_SHOWN else []
    raised += [f"what {m.layer} reads" for m in maps if m.counts]
    stopped = [f"{f.attack.name} {f.grade.name}" for f in findings if not f.counts and f.grade > Grade.NOT_SHOWN]
    return {
        "run": number, "kind": kind, "net": name, "classes": classes, "attacks": len(findings),
        "verdict": decide(course).word, "raised": raised, "stopped by a null control": stopped,
        "broke": [r.result.reason for r in made if getattr(r.result, "because", "") == "failed"],
    }  # fmt: skip


def interval(hits: int, trials: int) -> tuple[float, float]:
    """Return the 95% interval of Clopper and Pearson (1934).

    >>> tuple(round(limit, 4) for limit in interval(0, 201))
    (0.0, 0.0182)
    """
    low = 0.0 if not hits else float(beta.ppf(0.025, hits, trials - hits + 1))
    return low, 1.0 if hits == trials else float(beta.ppf(0.975, hits + 1, trials - hits))


def main() -> None:
    """Print every false alarm, and how many there were."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=201)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    alarms: Counter[str] = Counter()
    done: Counter[str] = Counter()
    for number in range(options.first, options.first + options.runs):
        found = run(number, options.steps)
        done[str(found["kind"])] += 1
        alarms[str(found["kind"])] += bool(found["raised"])
        if options.json or found["raised"] or found["broke"]:
            print(json.dumps(found), flush=True)
    for kind in (*KINDS, ""):
        hits, trials = (alarms[kind], done[kind]) if kind else (alarms.total(), done.total())
        if trials:
            low, high = interval(hits, trials)
            print(f"{kind or 'all'}: {hits} of {trials} ({hits / trials:.1%}; {low:.1%} to {high:.1%})")
    print(f"CPU {resource.getrusage(resource.RUSAGE_SELF).ru_utime:.0f} s")


if __name__ == "__main__":
    main()
