"""What a frame of the scene adds: `python benchmarks/references.py [NET ...]` prints the table of the README.

Every attack has the same time on the same update. Beside each stands the reference copy, which needs no update: an
attacker who holds a frame has that much already.
"""

import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "benchmarks")]

from bench_nets import view_of  # noqa: E402
from suite import SUITE  # noqa: E402

from auditor.attack import BY_NAME  # noqa: E402
from auditor.attack.start import reference_copy  # noqa: E402
from auditor.probe import shipped_probes  # noqa: E402
from auditor.records import Budget, InputSpec, Reconstruction  # noqa: E402
from auditor.score import psnr  # noqa: E402
from auditor.score.motion import motion_gain  # noqa: E402

SPEC = InputSpec(frames=8, channels=3, height=32, width=32, layout="NCTHW")
NETS = ("conv3d-flatten-relu", "conv3d-pooled", "cnn-gru", "vivit-fixed-positions")
FAMILIES = ("gradient-matching", "least-squares-matching", "layer-recursion")
CLIPS, SECONDS, FRAMES = 3, 10.0, {"r1": 1, "rk": 3}


def main() -> None:
    """Print one line for each net and attack: means over the clips, dB of the clip and of its motion over none."""
    torch.set_num_threads(1)
    probes = shipped_probes(SPEC, CLIPS)
    print("| net | attack | R0 | R1 | copy of 1 | R3 | copy of 3 |")
    print("|---|---|---|---|---|---|---|")
    for net in sys.argv[1:] or NETS:
        for family in FAMILIES:
            cells = [_mean([_attacked(net, family, probe) for probe in probes])]
            for kind, count in FRAMES.items():
                cells.append(_mean([_attacked(net, f"{family}-{kind}", probe, count) for probe in probes]))
                cells.append(_mean([_copied(probe, count) for probe in probes]))
            print(f"| {net} | {family} | {' | '.join(cells)} |", flush=True)


def _attacked(net: str, name: str, probe, count: int = 0) -> tuple[float, float] | None:
    reference = probe.clip[:count] if count else None
    view = view_of(SUITE[net]().eval(), probe.clip[None], [3], spec=SPEC, reference=reference)
    attack = BY_NAME[name]
    if attack.obstacle(view) is not None:
        return None
    made = attack.invert(view, Budget(seconds=SECONDS, steps=3000), 0)
    return _scored(probe, made.clips[0]) if isinstance(made, Reconstruction) else None


def _copied(probe, count: int) -> tuple[float, float]:
    view = view_of(SUITE["conv3d-pooled"]().eval(), probe.clip[None], [3], spec=SPEC, reference=probe.clip[:count])
    return _scored(probe, reference_copy(view.knowledge, count))


def _scored(probe, clip) -> tuple[float, float]:
    return float(psnr(probe.clip, clip)), motion_gain(probe.clip, clip)


def _mean(scores: list[tuple[float, float] | None]) -> str:
    kept = [s for s in scores if s is not None]
    if not kept:
        return "-"
    level, motion = (sum(values) / len(kept) for values in zip(*kept, strict=True))
    return f"{level:.1f} ({motion:+.1f})"


if __name__ == "__main__":
    main()
