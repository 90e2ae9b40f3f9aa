"""Named, frozen batteries: which attacks run, in which order, and how hard they try."""

from dataclasses import dataclass, replace

import torch

from auditor.attack.base import Attack
from auditor.attack.matching.gradient_matching import MODE_MATCHING
from auditor.attack.registry import (
    CLOSED_FORMS,
    FEATURES,
    FEATURES_R1,
    FEATURES_RK,
    LEAST_SQUARES,
    LEAST_SQUARES_R1,
    LEAST_SQUARES_RK,
    R1,
    RECURSION,
    RECURSION_R1,
    RECURSION_RK,
    RESIDUAL_RECURSION,
    SPAN,
    TOKEN_SPANS,
)

# With a frame of the scene: ahead of gradient matching from it on every net that was tried (benchmarks/README.md).
_WITH_ONE: tuple[Attack, ...] = (RECURSION_R1, FEATURES_R1, LEAST_SQUARES_R1)
_WITH_SEVERAL: tuple[Attack, ...] = (RECURSION_RK, FEATURES_RK, LEAST_SQUARES_RK)


# Reference seconds of a step of three Conv3d layers on clips of 8x32x32, where 760 s for a whole audit leave every
# search about 190 steps (benchmarks/README.md, "Against the code of 28 November").
CHEAP_STEP = 0.01
# What a GPU is taken to do in a second, in reference seconds, and what the kernels of a step take to start, however
# little they compute. Of steps at 16x112x112 an H200 did 85 on r3d_18 and 20 on VideoMAE-base; toys took 20 ms a step.
_GPU_SPEED, _GPU_STEP = 16.0, 0.02


def _battery(restarts: int, *more: Attack, informed: tuple[Attack, ...] = _WITH_ONE) -> tuple[Attack, ...]:
    """Return the decisive and cheap attacks first; `informed` are those that hold frames of the scene."""
    return (
        *CLOSED_FORMS,
        TOKEN_SPANS,
        RESIDUAL_RECURSION,
        RECURSION,
        replace(LEAST_SQUARES, restarts=restarts),
        replace(FEATURES, restarts=restarts),
        replace(SPAN, restarts=restarts),
        *more,
        *informed,
    )


def work_a_second(device: torch.device, pace: float) -> float:
    """Return the reference seconds of work that `--max-time` plans for one of its seconds, 1 or more; 1 on a CPU.

    By the kind of device and by what one step of gradient matching takes, `pace` reference seconds, and by no clock:
    the same on every machine and in every shard. Small networks gain nothing from a GPU.
    """
    return 1.0 if device.type == "cpu" else max(1.0, pace / (_GPU_STEP + pace / _GPU_SPEED))


@dataclass(frozen=True, kw_only=True)
class Preset:
    """What one named effort spends.

    Attributes
    ----------
    seconds
        Budget of work in reference seconds (`auditor.records.work`), for everything between loading and writing the
        report: what two cores finish in that time while another process takes one of them.
    least_seconds
        As `seconds` for networks of which one step of gradient matching takes `CHEAP_STEP` reference seconds or less;
        0 where they have all of it. See `seconds_for`.
    most_seconds
        As `seconds` where attacks that are planned by what they compute (`AttackCost`) need more.
    steps
        Most steps of one descent; the budget may allow fewer.
    probes
        Real clips attacked (a canary comes on top).
    seeds
        Independent repetitions of every stochastic attack.
    what_if
        Whether variants run unless asked otherwise.
    diagnose
        Whether scores are kept along the way, and the best search is started at the truth to tell why it fell short.
    """

    name: str
    seconds: float
    most_seconds: float
    attacks: tuple[Attack, ...]
    steps: int
    probes: int
    seeds: int
    what_if: bool
    diagnose: bool = False
    least_seconds: float = 0.0

    def seconds_for(self, pace: float) -> float:
        """Return the budget for a network by what one step of gradient matching takes, in reference seconds.

        It grows with the step from `least_seconds` to `seconds`: a small network has as many steps with less.
        """
        if not self.least_seconds:
            return self.seconds
        return min(self.seconds, self.least_seconds * max(1.0, pace / CHEAP_STEP))

    def with_several_references(self) -> "Preset":
        """Return the preset with the attacks that hold several frames of the scene, where it has none."""
        if any(a.frames_of_scene > 1 for a in self.attacks):
            return self
        return replace(self, attacks=(*self.attacks, *_WITH_SEVERAL))


PRESETS = {
    "fast": Preset(
        name="fast",
        seconds=180.0,
        most_seconds=720.0,
        attacks=_battery(1),
        steps=1500,
        probes=3,
        seeds=1,
        what_if=False,
    ),
    "standard": Preset(
        name="standard",
        seconds=1350.0,
        least_seconds=760.0,
        most_seconds=2700.0,
        attacks=_battery(2, MODE_MATCHING, informed=(*_WITH_ONE, *_WITH_SEVERAL)),
        steps=3000,
        probes=5,
        seeds=2,
        what_if=True,
        diagnose=True,
    ),
    "deep": Preset(
        name="deep",
        seconds=10800.0,
        most_seconds=21600.0,
        attacks=_battery(4, replace(MODE_MATCHING, restarts=2), informed=(*_WITH_ONE, *_WITH_SEVERAL, R1)),
        steps=6000,
        probes=7,
        seeds=3,
        what_if=True,
        diagnose=True,
    ),
}
