"""Calibrates the perceptual distance and the embedding on the shipped clips (docs/metrics.md).

python benchmarks/perceptual.py [SIDE ...]
"""

import itertools
import statistics
import sys
import time

import torch
from torch import Tensor
from torch.nn import functional

from auditor.probe import gallery, shipped_probes
from auditor.records import Clip, InputSpec
from auditor.score.embedding import embedding_rank
from auditor.score.perceptual import UNIT, distance_of_looks, looks


def main() -> None:
    torch.set_num_threads(1)
    for side in [int(text) for text in sys.argv[1:]] or [32, 64, 112]:
        _side(side)


def _side(side: int) -> None:
    spec = InputSpec(frames=8, channels=3, height=side, width=side, layout="NCTHW")
    clips, crowd = [probe.clip for probe in shipped_probes(spec)], gallery(spec).clips
    begun = time.process_time()
    seen = [looks(clip) for clip in clips]
    seconds = (time.process_time() - begun) / len(clips)
    pairs = [distance_of_looks(a, b) for a, b in itertools.combinations(seen, 2)]
    print(f"\n{side} pixels: {1000 * seconds:.0f} ms a clip of 8 frames; raw median of pairs {_raw(pairs):.2f}")
    print(f"{'':16}{'distance':>24}   rank by embedding")
    for name, change in _changes(side / 32).items():
        made = [change(clip) for clip in clips]
        away = [distance_of_looks(a, looks(b)) for a, b in zip(seen, made, strict=True)]
        ranks = [embedding_rank(a, b, crowd) for a, b in zip(clips, made, strict=True)]
        print(f"{name:16}{min(away):8.2f}{statistics.median(away):8.2f}{max(away):8.2f}   {ranks}")
    nearest = [min(distance_of_looks(a, b) for b in seen if b is not a) for a in seen]
    print(f"{'nearest scene':16}{min(nearest):8.2f}{statistics.median(nearest):8.2f}{max(nearest):8.2f}")


def _raw(pairs: list[float]) -> float:
    return UNIT * statistics.median(pairs)


def _changes(scale: float) -> dict:
    random = torch.Generator().manual_seed(0)

    def noise(level: float):
        return lambda clip: (clip + level * torch.randn(clip.shape, generator=random)).clamp(0, 1)

    return {
        "noise 0.02": noise(0.02),
        "noise 0.05": noise(0.05),
        "noise 0.2": noise(0.2),
        "blur 0.5": lambda clip: _blurred(clip, 0.5 * scale),
        "blur 1": lambda clip: _blurred(clip, scale),
        "blur 2": lambda clip: _blurred(clip, 2 * scale),
        "blur 3": lambda clip: _blurred(clip, 3 * scale),
        "frame held": lambda clip: clip[:1].expand_as(clip).contiguous(),
        "grey": lambda clip: torch.full_like(clip, 0.5),
        "uniform noise": lambda clip: torch.rand(clip.shape, generator=random),
    }


def _blurred(clip: Clip, sigma: float) -> Tensor:
    reach = int(4 * sigma + 0.5)
    weights = (-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2).exp()
    weights = weights / weights.sum()
    frames = functional.pad(clip.flatten(0, 1)[:, None], (reach,) * 4, mode="replicate")
    frames = functional.conv2d(functional.conv2d(frames, weights[None, None, :, None]), weights[None, None, None])
    return frames[:, 0].unflatten(0, clip.shape[:2])


if __name__ == "__main__":
    main()
