"""What `fl-audit inspect` shows on a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from auditor.records import Layer
from auditor.report import figures
from auditor.report.fidelity import RECIPE, UPPER_BOUND, fidelity_rows, not_seen
from auditor.text import printable

LONG, ENDS = 30, 12
WIDEST, NARROW = 110, 40
_OPERATORS = 12
_NAMES = 4
_UNNORMALISED = 10.0
DETERMINED = (
    "determined: how much of the layer's input its weight's gradient can fix, given the gradient at its output, which "
    "an attack has to find first (equations over unknowns, from shapes alone)"
)


def inspection_view(
    document: Mapping[str, Any],
    layers: Sequence[Layer],
    name: str,
    console: Console,
    *,
    everything: bool = False,
    frame: str = "",
) -> None:
    """Print an inspection: what was read, how faithful, what enters, layers and what they give away by structure.

    `frame` is the file that the probe frame was written to. More than 30 layers are shortened unless `everything`.
    """
    width = max(NARROW, min(console.width, WIDEST))
    parts: list[Any] = [
        _title(document, name),
        _section("Fidelity", _fidelity(document)),
        _section("Input, as guessed", _input(document, frame)),
        _section("Operators", Text(_operators(document), overflow="fold")),
        _section(f"Layers with parameters ({len(layers)})", _layers(document, layers, everything)),
        Padding(Text(DETERMINED, style="dim", overflow="fold"), (0, 0, 0, 2)),
        _section("Exposed by structure, before any attack", _flags(document, everything)),
        _section("Client-side check: has a server manipulated this model?", _client_check(document["client_check"])),
    ]
    console.print(Group(*parts), width=width, highlight=False)
    if document["fidelity"]["reexport"]:
        console.print(Text("\nExport again, from the PyTorch source or in Python", style="bold"))
        for line in (RECIPE, document["fidelity"]["reexport"]):  # whole lines, so that they can be copied
            console.print(printable(line, 1000), markup=False, highlight=False, soft_wrap=True)


def _title(document: Mapping[str, Any], name: str) -> Text:
    text = Text(printable(name, 60), style="bold")
    text.append(f"  {document['format']}, sha256 {figures.short_hash(document['sha256'])}", style="dim")
    return text


def _section(title: str, body: Any) -> Group:
    return Group(Text(), Text(title, style="bold"), Padding(body, (0, 0, 0, 2), expand=False))


def _pairs(rows: Sequence[tuple[str, str | Text]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="dim", min_width=12)
    table.add_column(overflow="fold")
    for label, value in rows:
        table.add_row(label, Text(value) if isinstance(value, str) else value)
    return table


def _fidelity(document: Mapping[str, Any]) -> Group:
    fidelity, parameters = document["fidelity"], document["parameters"]
    trained = [p for p in parameters if p["trainable"]]
    counts = {
        "tensors": len(parameters),
        "sent_tensors": len(trained),
        "elements": sum(map(_size, parameters)),
        "sent_elements": sum(map(_size, trained)),
    }
    rows: list[tuple[str, str | Text]] = [(label, text) for label, text in fidelity_rows(fidelity, counts)]
    rows.append(("Training", f"{fidelity['loss']} over {fidelity['classes']} classes"))
    privacy = document.get("privacy")
    if privacy is not None:
        rows.append(("Privacy", Text(privacy["sentence"], style="" if privacy["holds"] else "bold red")))
        if privacy.get("note"):
            rows.append(("", privacy["note"]))
    parts: list[Any] = [_pairs(rows)]
    if fidelity["upper_bound"]:
        parts += [Text(), Text(UPPER_BOUND, style="bold red")]
    parts += [Text(f"- {note}", overflow="fold") for note in (*not_seen(fidelity), *_remarks(fidelity))]
    return Group(*parts)


def _remarks(fidelity: Mapping[str, Any]) -> list[str]:
    """Notes but for the one that repeats the line for another export, which is shown by itself."""
    line = fidelity["reexport"]
    return [note for note in fidelity["notes"] if not line or line not in note]


def _size(parameter: Mapping[str, Any]) -> int:
    total = 1
    for extent in parameter["shape"]:
        total *= extent
    return total


def _input(document: Mapping[str, Any], frame: str) -> Group:
    spec = document["input"]
    origins, values = spec["origins"], spec["entering"]
    rows: list[tuple[str, str | Text]] = [
        (
            "Clip",
            _with(
                f"{spec['frames']} frames of {spec['channels']} x {spec['height']} x {spec['width']}", origins["size"]
            ),
        ),
        ("Layout", _with(spec["layout"], origins["layout"])),
        ("Mean", _with(_numbers(spec["mean"]), origins["mean"])),
        ("Deviation", _with(_numbers(spec["std"]), origins["std"])),
        ("Pixel range", _with(" to ".join(_number(v) for v in spec["value_range"]), origins["value_range"])),
        (
            "What enters",
            f"shape {' x '.join(map(str, values['shape']))}, values {_number(values['minimum'])} to "
            f"{_number(values['maximum'])}, mean {_numbers(values['mean'])}, deviation {_numbers(values['std'])} "
            "(on a shipped clip)",
        ),
    ]
    if spec["first_layer"]["name"]:
        rows.append(("First layer", f"{spec['first_layer']['name']} reads {_shape(spec['first_layer']['shape'])}"))
    if frame:
        rows.append(("Probe frame", printable(frame, 300)))
    parts: list[Any] = [_pairs(rows)]
    parts += [Text(hint, style="yellow") for hint in _hints(spec, _rescales(document))]
    return Group(*parts)


def _rescales(document: Mapping[str, Any]) -> bool:
    """Whether the network's own constants rescale pixels before its first layer."""
    return bool((document["fidelity"].get("unaccounted") or {}).get("pixels"))


def _hints(spec: Mapping[str, Any], rescales: bool) -> list[str]:
    """What a reader should look twice at; a network that rescales pixels reads large ones, and normalises itself."""
    hints = []
    largest = max(abs(spec["entering"]["minimum"] or 0.0), abs(spec["entering"]["maximum"] or 0.0))
    if largest > _UNNORMALISED and not rescales:
        hints.append("Values this large are rare in training: check --range, --mean and --std.")
    if spec["origins"]["mean"].startswith("taken") and spec["origins"]["std"].startswith("taken") and not rescales:
        hints.append("No normalisation is stated. If the model was trained with one, give --mean and --std.")
    first = spec["first_layer"]
    if first["name"] and len(first["shape"]) > 1 and first["shape"][1] != spec["channels"]:
        hints.append(
            f"The first layer reads {first['shape'][1]} channels, and a clip has {spec['channels']}: "
            "is the layout right?"
        )
    return hints


def _with(value: str, origin: str) -> Text:
    text = Text(value)
    text.append(f"  ({printable(origin, 100)})", style="dim")
    return text


def _operators(document: Mapping[str, Any]) -> str:
    counts = sorted(document["operators"].items(), key=lambda item: -item[1])
    shown = ", ".join(f"{printable(name, 40)} {count}" for name, count in counts[:_OPERATORS])
    rest = len(counts) - _OPERATORS
    return shown + (f" and {rest} more kinds" if rest > 0 else "")


def _layers(document: Mapping[str, Any], layers: Sequence[Layer], everything: bool) -> Table:
    trained = {p["name"] for p in document["parameters"] if p["trainable"]}
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("#", justify="right", no_wrap=True, min_width=2)
    table.add_column("layer", overflow="ellipsis", no_wrap=True, min_width=18)
    table.add_column("kind", overflow="ellipsis", no_wrap=True, min_width=6)
    table.add_column("elements", justify="right", no_wrap=True, min_width=9)
    table.add_column("trained", no_wrap=True, min_width=7)
    table.add_column("determined", no_wrap=True, min_width=10)
    table.add_column("output", overflow="ellipsis", no_wrap=True, min_width=6)
    counted = {name: d for d in document["determinacy"] for name in d["layers"]}
    short = len(layers) > LONG and not everything
    for position, layer in enumerate(layers):
        if short and position == ENDS:
            left = len(layers) - 2 * ENDS
            table.add_row("", Text(f"… {left} more: --all", style="dim"), "", "", "", "", "")
        if short and ENDS <= position < len(layers) - ENDS:
            continue
        sent = [printable(name, 300) in trained for name in layer.parameters]
        table.add_row(
            str(layer.index),
            escape(printable(layer.name, 120)),
            layer.kind,
            figures.whole(layer.elements),
            "yes" if all(sent) else "in part" if any(sent) else "no",
            figures.determined(counted.get(printable(layer.name, 300))),
            "x".join(map(str, layer.output_shape)) or "-",
        )
    return table


def _flags(document: Mapping[str, Any], everything: bool) -> Group:
    flags = document["flags"]
    if not flags:
        return Group(Text("no layer gives anything away in closed form"))
    by_text: dict[str, list[str]] = {}
    for flag in flags:
        by_text.setdefault(flag["text"], []).append(printable(flag["layer"], 60))
    lines: list[Any] = [Text(f"{_some(names, everything)}: {text}", overflow="fold") for text, names in by_text.items()]
    return Group(*lines)


def _client_check(check: Mapping[str, Any]) -> Group:
    """Every test that alarms with its evidence, and what the others come to."""
    tests = check["tests"]
    lines: list[Any] = []
    for test in (t for t in tests if t["passed"] is False):
        where = f", {test['where']}" if test["where"] else ""
        told = f"{test['name']}{where}: {test['measured']} (allowed: {test['threshold']}); {test['why']}"
        lines.append(Text(printable(told, 600), style="bold red", overflow="fold"))
    missing = [t["name"] for t in tests if t["passed"] is None]
    passed = sum(t["passed"] is True for t in tests)
    lines.append(Text(f"{passed} of {len(tests)} tests saw nothing unusual", overflow="fold"))
    if missing:
        lines.append(Text(f"not made: {printable(', '.join(missing), 300)}", style="dim", overflow="fold"))
    return Group(*lines, Text(check["note"], style="dim", overflow="fold"))


def _some(names: Sequence[str], everything: bool) -> str:
    shown = names if everything or len(names) <= _NAMES else names[:_NAMES]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "-"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _numbers(values: Sequence[float | None]) -> str:
    return ", ".join(map(_number, values))
