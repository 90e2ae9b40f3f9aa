"""Layers in forward order: what each exposes, what its equations determine, and what an attack demonstrated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from auditor.report.charts import exposure_range, place
from auditor.report.figures import real
from auditor.report.layers.attacked import alone

WIDTH, HEIGHT, SHARE_HEIGHT = 640.0, 110.0, 46.0
# Room above the most exposed layer, so that a line of what was demonstrated fits.
_ROOM_DB = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerBar:
    """One layer: its box, and how high its exposure, its determined share and what it alone gave are drawn, or None."""

    x: float
    width: float
    exposed: float | None
    determined: float | None
    alone: float | None
    sent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPlot:
    """The bars of all layers, and the levels drawn across them, in heights from the axis up; `low` and `high` in dB."""

    bars: tuple[LayerBar, ...]
    low: float
    high: float
    guess: float | None
    demonstrated: float | None


def layer_plot(layers: Sequence[Mapping[str, Any]], demonstrated: Any) -> LayerPlot | None:
    """Return the plot, or None where no layer was measured; `demonstrated` is the best PSNR of an attack, or None."""
    shares = [_share(layer) for layer in layers]
    if not layers or (all(la["exposure"] is None for la in layers) and all(s is None for s in shares)):
        return None
    prior, most = exposure_range(layers)
    shown = real(demonstrated)
    low = min(prior, shown if shown is not None else prior) - _ROOM_DB
    single = [gave for layer in layers if (gave := alone(layer)) is not None]
    high = max(most, min(60.0, max((*single, shown if shown is not None else most)))) + _ROOM_DB
    step = WIDTH / len(layers)
    gap = min(2.0, step * 0.2)
    measured = any(layer["exposure"] is not None for layer in layers)
    bars = tuple(
        LayerBar(
            x=round(i * step, 2),
            width=round(step - gap, 2),
            exposed=None if layer["exposure"] is None else place(layer["exposure"]["psnr"], low, high, HEIGHT),
            determined=None if share is None else place(share, 0, 1, SHARE_HEIGHT),
            alone=None if (gave := alone(layer)) is None else place(gave, low, high, HEIGHT),
            sent=layer["sent"],
        )
        for i, (layer, share) in enumerate(zip(layers, shares, strict=True))
    )
    return LayerPlot(
        bars=bars,
        low=low,
        high=high,
        guess=place(prior, low, high, HEIGHT) if measured else None,
        demonstrated=None if shown is None else place(shown, low, high, HEIGHT),
    )


def _share(layer: Mapping[str, Any]) -> float | None:
    counted = layer.get("determinacy")
    return None if counted is None else real(counted["share"])
