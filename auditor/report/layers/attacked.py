"""Single layers under attack: rows in the order of what each gave, why some gave more than was called exposed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from auditor.report import figures
from auditor.report.language import say
from auditor.report.layers.keep_back import kept_back
from auditor.text import printable

# What a table may be ordered by, in the order of its columns.
ORDERS = ("layer", "determined", "exposed", "alone", "without", "size", "gradient")
# Both are shown with one digit.
_SHOWN_ALIKE = 0.05
_SOLVED = ("linear-input", "patch-embedding", "spear", "token-spans")
_NAMES = 6
# Of a screen that holds a whole audit.
_LINES = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackedLayer:
    """One row: the layer as results have it, and its place in every order, the most first."""

    layer: Mapping[str, Any]
    places: Mapping[str, int]
    below: bool


def attacked_layers(layers: Sequence[Mapping[str, Any]]) -> tuple[AttackedLayer, ...]:
    """Return the layers that were attacked, in the order of what each alone gave."""
    held = [layer for layer in layers if layer.get("recovery")]
    orders = {name: sorted(held, key=lambda la: _measure(la, name)) for name in ORDERS}
    rows = [
        AttackedLayer(
            layer=layer,
            places={name: 1 + next(i for i, one in enumerate(order) if one is layer) for name, order in orders.items()},
            below=_below(layer),
        )
        for layer in held
    ]
    return tuple(sorted(rows, key=lambda row: row.places["alone"]))


def why_layers_below(results: Mapping[str, Any]) -> str:
    """Return why attacks on single layers recovered more than these are said to expose; nothing where none did."""
    below = [layer for layer in results["layers"] if layer.get("recovery") and _below(layer)]
    if not below:
        return ""
    names = ", ".join(printable(layer["name"], 40) for layer in below[:_NAMES])
    told = say(
        "Attacks on these layers alone recovered more than linear analysis calls exposed: %(names)s.", names=names
    )
    more = len(below) - _NAMES
    if more > 0:
        told += " " + say("So did %(n)s more.", n=more)
    if any(layer["recovery"]["alone"]["attack"] in _SOLVED for layer in below):
        told += " " + say("A closed form solves the gradient as it was sent, whatever noise the analysis supposes.")
    if any(layer["recovery"]["alone"]["attack"] not in _SOLVED for layer in below):
        told += " " + say(
            "A search follows the curvature of the model and the prior of clips, in more modes than the analysis "
            "measures."
        )
    return told


def layer_lines(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines for a terminal: what the strongest layer gave alone and what is left without it, what to keep."""
    rows = attacked_layers(results["layers"])
    for row in rows[:_LINES]:
        made, exposed = row.layer["recovery"], row.layer["exposure"]
        shown, left = (None if part is None else part["psnr"] for part in (made["alone"], made["without"]))
        yield (
            f"{printable(row.layer['name'], 24)} alone {figures.decibels(shown)} (exposed "
            f"{figures.decibels(None if exposed is None else exposed['psnr'])}), without it {figures.decibels(left)}"
        )
    told = kept_back(results)
    if told:
        yield told


def alone(layer: Mapping[str, Any]) -> float | None:
    """Return the dB that the strongest attack on a layer alone reached."""
    made = (layer.get("recovery") or {}).get("alone")
    return None if made is None else figures.real(made["psnr"])


def _below(layer: Mapping[str, Any]) -> bool:
    shown, exposed = alone(layer), layer["exposure"]
    predicted = None if exposed is None else figures.real(exposed["psnr"])
    return shown is not None and predicted is not None and predicted < shown - _SHOWN_ALIKE


def _measure(layer: Mapping[str, Any], order: str) -> tuple[bool, float]:
    """Return what a row is ordered by, the most first; what was not measured comes last."""
    made = layer["recovery"]
    values = {
        "layer": -layer["index"],
        "determined": None if layer.get("determinacy") is None else figures.real(layer["determinacy"]["share"]),
        "exposed": None if layer["exposure"] is None else figures.real(layer["exposure"]["psnr"]),
        "alone": None if made["alone"] is None else figures.real(made["alone"]["psnr"]),
        # The layer without which least is left matters most.
        "without": None if made["without"] is None else -(figures.real(made["without"]["psnr"]) or 0.0),
        "size": layer["elements"],
        "gradient": figures.real(layer.get("gradient")),
    }
    value = values[order]
    return value is None, 0.0 if value is None else -float(value)
