"""The page of exposure's calibration from the lines of its cases: docs/calibration.md and its curve as SVG."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE, CURVE = ROOT / "docs" / "calibration.md", ROOT / "docs" / "calibration.svg"
Line = Mapping[str, Any]
# A prediction that is off by more is explained.
NEAR_DB = 3.0
# Nets that give the same update whatever the order of their tokens.
_WITHOUT_ORDER = ("vivit-none",)
_LOW, _HIGH, _SIZE, _EDGE = 14.0, 40.0, 420.0, 44.0
_COLOURS = ("#0b6e99", "#c25b00", "#5a5a5a")


def write(lines: Sequence[Line], levels: Sequence[float]) -> None:
    """Write the page and the curve."""
    PAGE.write_text("\n".join(_page(lines)) + "\n", encoding="utf-8")
    CURVE.write_text("\n".join(_curve(lines, levels)) + "\n", encoding="utf-8")


def off(line: Line) -> float:
    """Return by how many dB the prediction lies above what was reached."""
    return float(line["predicted"] - line["reached"])


def why(line: Line) -> str:
    """Say why a prediction is off by more than 3 dB; nothing where it is not."""
    if abs(off(line)) <= NEAR_DB:
        return ""
    if line["predicted"] < line["reached"] <= line["at_most"] + NEAR_DB:
        return f"{line['products']} products tell it from {line['predicted']:.1f} to {line['at_most']:.1f} dB"
    # In leading modes it may end below what was reached, and then says nothing.
    if 0.0 <= line["of_this_clip"] - line["reached"] <= NEAR_DB:
        return f"this clip is not like the mean of clips: {line['of_this_clip']:.1f} dB by the same analysis of it"
    if line["net"] in _WITHOUT_ORDER:
        return "its tokens fit in any order, which slopes at the clip do not show"
    if off(line) < 0.0:
        return "the search follows curvature, which a linear analysis does not see"
    return (
        "the search fell short: a slope holds for a short way only" if not line["smooth"] else "the search fell short"
    )


def _page(lines: Sequence[Line]) -> Iterator[str]:
    smooth = [line for line in lines if line["smooth"]]
    near = sum(abs(off(line)) <= NEAR_DB for line in smooth)
    kinked = [line for line in lines if not line["smooth"]]
    near_kinked = sum(abs(off(line)) <= NEAR_DB for line in kinked)
    others = f", and {near_kinked} of {len(kinked)} on nets with ReLU" if kinked else ""
    products, steps = (max(line[name] for line in lines) for name in ("products", "steps"))
    yield f"""# Is exposure reached?

`python benchmarks/calibration.py` sends updates with normal noise that is known exactly (`--defence gaussian:SIGMA`)
and compares what exposure predicts at that noise with what least squares with a prior reaches from grey. Nets of the
catalogue on a shipped clip at 8x16x16, fresh weights, one clip an update, all modes by at most
{products} products with the Jacobian and its transpose, at most {steps} steps; noise is a share of the root mean square
of the update's entries.

**{near} of {len(smooth)} predictions on {len({line["net"] for line in smooth})} smooth nets lie within
{NEAR_DB:.0f} dB of what was reached**{others}. Above the line of the curve the search went further than was predicted.

![predicted against reached](calibration.svg)

*Predicted* is what is called exposed, and the exact value of the analysis lies between it and *at most*. *This clip* is
the same analysis in 512 leading modes with the clip itself in place of the prior's mean over clips: where it agrees
with what was reached, the analysis holds and the clip is unlike the prior.

| net | noise | predicted | at most | this clip | reached | off | why |
|---|---|---|---|---|---|---|---|"""
    for line in lines:
        yield (
            f"| {line['net']} | {line['level']} | {line['predicted']:.1f} dB | {line['at_most']:.1f} dB | "
            f"{_told(line['of_this_clip'])} | "
            f"{line['reached']:.1f} dB | {off(line):+.1f} | {why(line)} |"
        )
    yield """
The prior is the power law over space and time that searches use too, fitted to clips of five scenes at 8x32x32. The
prior of before promised far more ([benchmarks/README.md](../benchmarks/README.md), layers and architectures)."""


def _told(value: float | None) -> str:
    return "—" if value is None else f"{value:.1f} dB"


def _curve(lines: Sequence[Line], levels: Sequence[float]) -> Iterator[str]:
    size = _SIZE + 2 * _EDGE
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size:.0f} {size:.0f}" font-family="sans-serif">'
    yield f'<rect width="{size:.0f}" height="{size:.0f}" fill="#fff"/>'
    low, high = _at(_LOW), _at(_HIGH)
    for above, dash in ((0.0, ""), (NEAR_DB, ' stroke-dasharray="4 4"'), (-NEAR_DB, ' stroke-dasharray="4 4"')):
        first, last = _LOW + max(0.0, -above), _HIGH - max(0.0, above)
        yield (
            f'<line x1="{_at(first):.1f}" y1="{_down(first + above):.1f}" x2="{_at(last):.1f}" '
            f'y2="{_down(last + above):.1f}" stroke="#999"{dash}/>'
        )
    yield f'<path d="M{low:.1f} {_down(_HIGH):.1f}V{_down(_LOW):.1f}H{high:.1f}" fill="none" stroke="#333"/>'
    for value in range(int(_LOW) + 1, int(_HIGH) + 1, 5):
        yield _text(_at(value), size - _EDGE + 16, str(value), "middle")
        yield _text(_EDGE - 6, _down(value) + 4, str(value), "end")
    yield _text(size / 2, size - 8, "predicted, dB", "middle")
    yield f'<g transform="translate(14 {size / 2:.1f}) rotate(-90)">{_text(0, 0, "reached, dB", "middle")}</g>'
    for colour, level in zip(_COLOURS, levels, strict=True):
        for line in (one for one in lines if one["level"] == level):
            told = escape(f"{line['net']}, noise {level}: {line['predicted']:.1f} and {line['reached']:.1f} dB")
            x, y = _at(line["predicted"]), _down(line["reached"])
            fill = colour if line["smooth"] else "none"
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{fill}" stroke="{colour}">'
            yield f"<title>{told}</title></circle>"
    for k, (colour, level) in enumerate(zip(_COLOURS, levels, strict=True)):
        y = _EDGE + 14 + 18 * k
        yield f'<circle cx="{_EDGE + 14:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'
        yield _text(_EDGE + 24, y + 4, f"noise {level} of the update", "start")
    if not all(line["smooth"] for line in lines):
        yield _text(_EDGE + 10, _EDGE + 72, "hollow: nets with ReLU", "start")
    yield "</svg>"


def _text(x: float, y: float, told: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="12" text-anchor="{anchor}">{told}</text>'


def _at(value: float) -> float:
    return _EDGE + _SIZE * (min(max(value, _LOW), _HIGH) - _LOW) / (_HIGH - _LOW)


def _down(value: float) -> float:
    return _EDGE + _SIZE * (_HIGH - min(max(value, _LOW), _HIGH)) / (_HIGH - _LOW)
