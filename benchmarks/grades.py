"""Calibrates the grades of pictures on reconstructions that were looked at, and draws their contact sheet.

python benchmarks/grades.py [SHEET.jpg]

`grades.json` holds what was seen in each picture, written down before anything was measured on it; `grades.npz` the
reconstructions of the calibration that attacks made. The others are made here again from shipped clips. Of pictures of
clips that cannot be shipped only the numbers are kept. docs/grades.md tells the rest.
"""

import functools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional

from auditor.probe import shipped_probes
from auditor.records import Clip, InputSpec
from auditor.results.scores import CLEAR_CONTENT, NO_CONTENT, VISIBLE_CONTENT
from auditor.score import EXACT_DB, psnr
from auditor.score.content import content

FOLDER = Path(__file__).parent
LINES = (0.60, 0.65, 0.68, 0.70, 0.72, VISIBLE_CONTENT, 0.74, 0.76, 0.80, 0.85)
# What the eye said, weakest first: from the third on persons, hands or moving objects are made out.
EYE = ("nothing", "scene", "content", "exact")
_COLOURS = {"nothing": "#777777", "scene": "#2b5fa8", "content": "#c25b12", "exact": "#9b1c31"}
# What stands for pictures that are equal in 256 levels.
_EQUAL_DB = 90.0
Picture = Mapping[str, Any]


def main() -> None:
    torch.set_num_threads(1)
    pictures = json.loads((FOLDER / "grades.json").read_text(encoding="utf-8"))
    kept = [measured(p) for p in pictures if p["set"] == "calibration"]
    numbers = [p for p in pictures if p["set"] != "calibration"]
    calibration = in_range([*kept, *(p for p in numbers if p["set"] == "line")])
    print(f"{len(calibration)} pictures between 15 and 35 dB for the line; eye and line agree at")
    for line in LINES:
        missed, invented = errors(calibration, line)
        right = len(calibration) - missed - invented
        print(f"  {line:.2f}: {right:3} ({missed} visible below the line, {invented} not visible above it)")
    for name in ("line", "test", "second test", "third test"):
        report(name, in_range([p for p in numbers if p["set"] == name]))
    bands(in_range([*kept, *numbers]))
    print("the third test alone, looked at when all lines stood:")
    bands(in_range([p for p in numbers if p["set"] == "third test"]))
    print("by PSNR alone, the best line of the calibration:", best_by(calibration, "psnr"))
    if len(sys.argv) > 1:
        sheet(in_range(kept)).save(sys.argv[1], quality=82)


def measured(picture: Picture) -> Picture:
    """Return a picture of the calibration with its numbers computed again."""
    truth, estimate = clips_of(picture)
    found = {"psnr": min(_EQUAL_DB, float(psnr(truth, estimate))), "content": content(truth, estimate)}
    for name, value in found.items():
        if abs(value - picture[name]) > 0.02:
            raise SystemExit(f"{picture['name']}: {name} is {value:.3f}, and grades.json says {picture[name]:.3f}")
    return {**picture, **found}


def clips_of(picture: Picture) -> tuple[Clip, Clip]:
    """Return the true clip and the reconstruction, as they were looked at: in 256 levels."""
    truth = _truth(picture["clip"], picture["side"])
    whole = (truth * 255).round() / 255
    if picture["made"] is None:
        return whole, torch.from_numpy(_reconstructions()[picture["name"]]).float() / 255
    estimate = truth
    for step, *values in picture["made"]:
        estimate = STEPS[step](estimate, *values)
    return whole, (estimate.clamp(0, 1) * 255).round() / 255


@functools.cache
def _reconstructions() -> Mapping[str, np.ndarray]:
    with np.load(FOLDER / "grades.npz", allow_pickle=False) as arrays:
        return dict(arrays)


@functools.cache
def _truth(name: str, side: int) -> Clip:
    spec = InputSpec(frames=8, channels=3, height=side, width=side, layout="NCTHW")
    return next(p.clip for p in shipped_probes(spec) if p.name == name)


def in_range(pictures: Sequence[Picture]) -> list[Picture]:
    return [p for p in pictures if 15.0 <= p["psnr"] <= EXACT_DB]


def visible(picture: Picture) -> bool:
    """Tell whether the eye made out what moves."""
    return EYE.index(picture["eye"]) >= EYE.index("content")


def errors(pictures: Sequence[Picture], line: float, by: str = "content") -> tuple[int, int]:
    """Return how many pictures are visible below the line, and not visible above it."""
    missed = sum(visible(p) and p[by] < line for p in pictures)
    return missed, sum(not visible(p) and p[by] >= line for p in pictures)


def best_by(pictures: Sequence[Picture], name: str) -> str:
    line = min((p[name] for p in pictures), key=lambda c: sum(errors(pictures, c, name)))
    return f"{line:.2f} with {sum(errors(pictures, line, name))} errors of {len(pictures)}"


def report(name: str, pictures: Sequence[Picture]) -> None:
    missed, invented = errors(pictures, VISIBLE_CONTENT)
    first = sum((EYE.index(p["first_look"]) >= 2) == (p["content"] >= VISIBLE_CONTENT) for p in pictures)
    right = len(pictures) - missed - invented
    print(f"{name}: words and eye agree in {right} of {len(pictures)} ({missed} missed, {invented} invented); ", end="")
    print(f"with the eye's first look, truth hidden, in {first}")


def bands(pictures: Sequence[Picture]) -> None:
    """Print in how many pictures of each word of the report the eye made something out; of the tests in brackets."""
    for word, low, high in (
        ("not visible", -1.0, NO_CONTENT),
        ("look at it", NO_CONTENT, CLEAR_CONTENT),
        ("visible", CLEAR_CONTENT, 2.0),
    ):
        kept = [p for p in pictures if low <= p["content"] < high]
        tested = [p for p in kept if p["set"].endswith("test")]
        told = f"{sum(map(visible, kept))} of {len(kept)} ({sum(map(visible, tested))} of {len(tested)})"
        print(f"{word}: made out in {told}")


def _blur(clip: Tensor, sigma: float) -> Tensor:
    reach = int(3 * sigma + 1)
    offset = torch.arange(-reach, reach + 1).float()
    taps = (-0.5 * (offset / sigma) ** 2).exp()
    images = functional.pad(clip.reshape(-1, 1, *clip.shape[-2:]), (reach,) * 4, mode="reflect")
    rows = functional.conv2d(images, (taps / taps.sum()).reshape(1, 1, 1, -1))
    return functional.conv2d(rows, (taps / taps.sum()).reshape(1, 1, -1, 1)).reshape(clip.shape)


def _noise(clip: Tensor, level: float, seed: int = 0) -> Tensor:
    return clip + level * torch.randn(clip.shape, generator=torch.Generator().manual_seed(seed))


def _lost(clip: Tensor, share: float, size: int) -> Tensor:
    grid = clip.shape[-1] // size
    lost = (torch.rand(len(clip), 1, grid, grid, generator=torch.Generator().manual_seed(0)) < share).float()
    lost = functional.interpolate(lost, clip.shape[-2:], mode="nearest")
    return clip * (1 - lost) + 0.5 * lost


def _pixels(clip: Tensor, count: int) -> Tensor:
    return functional.interpolate(functional.interpolate(clip, (count, count), mode="area"), clip.shape[-2:])


STEPS: Mapping[str, Callable[..., Tensor]] = {
    "blur": _blur,
    "noise": _noise,
    "lost": _lost,
    "pixels": _pixels,
    "mean frame": lambda clip: clip.mean(0, keepdim=True).expand_as(clip),
    "contrast": lambda clip, factor: 0.5 + factor * (clip - 0.5),
    "cast": lambda clip, *factors: clip * torch.tensor(factors)[:, None, None],
    "blur after": lambda clip, frames, sigma: torch.cat([clip[:frames], _blur(clip, sigma)[frames:]]),
}


def sheet(pictures: Sequence[Picture], columns: int = 10, size: int = 84) -> Image.Image:
    """Draw every picture beside its truth, by agreement; colours are the eye's words, the line lies where it is."""
    ordered = sorted(pictures, key=lambda p: p["content"])
    wide, high = 2 * size + 10, size + 24
    rows = -(-len(ordered) // columns)
    made = Image.new("RGB", (columns * wide + 6, rows * high + 6), "white")
    draw = ImageDraw.Draw(made)
    for place, picture in enumerate(ordered):
        left, top = 6 + place % columns * wide, 6 + place // columns * high
        colour = _COLOURS[picture["eye"]]
        draw.rectangle((left - 3, top - 3, left + 2 * size + 2, top + size + 15), outline=colour, width=2)
        for which, frame in enumerate(_best_frame(*clips_of(picture))):
            made.paste(frame.resize((size, size), Image.Resampling.BICUBIC), (left + which * size, top))
        above = ">" if picture["content"] >= VISIBLE_CONTENT else "<"
        told = f"{picture['content']:.2f}{above} {picture['psnr']:.1f}dB {picture['eye']}"
        draw.text((left, top + size + 2), told, fill=colour)
    return made


def _best_frame(truth: Clip, estimate: Clip) -> tuple[Image.Image, Image.Image]:
    """Return the frame in which most of what moves agrees: reconstruction, then truth."""
    half = truth.median(0, keepdim=True).values
    agreement = [
        content(torch.cat([half, half, t[None]]), torch.cat([half, half, e[None]]))
        for t, e in zip(truth, estimate, strict=True)
    ]
    best = agreement.index(max(agreement))
    return _image(estimate[best]), _image(truth[best])


def _image(frame: Tensor) -> Image.Image:
    return Image.fromarray((frame.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())


if __name__ == "__main__":
    main()
