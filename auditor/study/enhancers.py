"""Super-resolution of a study's reconstructions, held against the clip before it was resized for the model."""

import functools
from collections.abc import Sequence

from torch.nn import functional

from auditor.enhance import DatLight, bicubic
from auditor.errors import UsageError
from auditor.probe.fit import resize
from auditor.records import Clip, Clips, Probe
from auditor.results.study import StudyEnhanced
from auditor.score import psnr, rank
from auditor.text import printable

NAMES = ("DAT-light x2", "DAT-light x4")


def check_enhancer(name: str) -> None:
    """Raise UsageError if there is no such enhancement."""
    if name not in NAMES:
        raise UsageError(f"there is no enhancement '{printable(name)}'", f"use {' or '.join(NAMES)}")


def enhanced_block(names: Sequence[str], probe: Probe, clip: Clip, gallery: Clips) -> list[tuple[StudyEnhanced, Clip]]:
    """Enhance a reconstruction by each method; numbers against the native frames, beside bicubic at the same scale."""
    found = []
    for name in names:
        scale = int(name[-1])
        made = _dat(scale)(clip).clip.cpu()
        simple = bicubic(clip, scale).clip.cpu()
        truth = resize(probe.native, *made.shape[-2:])
        own, base = float(psnr(truth, made)), float(psnr(truth, simple))
        shrunk = functional.interpolate(made, probe.clip.shape[-2:], mode="area")
        block = StudyEnhanced(
            method=name, psnr=own, bicubic=base, over_bicubic=own - base, rank=rank(probe.clip, shrunk, gallery)
        )
        found.append((block, made))
    return found


@functools.cache
def _dat(scale: int) -> DatLight:
    return DatLight(scale)
