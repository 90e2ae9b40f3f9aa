"""What `fl-audit attack --update` prints for people: what was matched, what came out, and what that proves."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from auditor.report.attack import label_words
from auditor.report.figures import tiny

_LABEL = 14
# Names that are listed one by one; more are counted.
_SHOWN = 12


def captured_summary(document: Mapping[str, Any], folder: str) -> str:
    """Return the table of tensors, the outcome and what it proves; `folder` is where the pictures are."""
    return "\n".join(f"{label:<{_LABEL}}{text}".rstrip() for label, text in _rows(document, folder))


def _rows(d: Mapping[str, Any], folder: str) -> Iterator[tuple[str, str]]:
    yield "attack", f"{d['attack']['title']} ({d['attack']['name']})"
    yield from update_rows(d["update"])
    yield "labels", f"{label_words(d['labels'])} ({d['knowledge']['labels_from']})"
    if d["protocol"].get("defence"):
        yield "defence", ", ".join(d["protocol"]["defence"])
    yield "outcome", d["outcome"]["text"]
    yield "cost", f"{d['steps']} steps, {d['seconds']:.1f} s, final objective {tiny(d['objective'])}"
    yield from (("certificate", f"{name} {tiny(value)}") for name, value in d["certificate"].items())
    others = ", ".join(tiny(value) for value in d["unrelated"])
    yield "residual", f"{tiny(d['residual'])} of the update is not explained; unrelated clips leave {others}"
    yield "proves", d["proof"]["text"]
    yield from (("not claimed", text) for text in d["not_claimed"])
    yield from (("note", note) for note in d["notes"])
    yield "files", folder


def update_rows(update: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield which tensor of the file is which of the model, and what is missing or left over."""
    names = ", ".join(f"{f['name']} ({f['role']})" for f in update["files"])
    steps = f", {update['steps']} local steps" if update["steps"] else ""
    yield "update", f"{names}: {_KINDS[update['kind']]}{steps}, norm {tiny(update['norm'])}"
    matched = update["matched"]
    for row in matched[:_SHOWN]:
        given = "" if row["how"] == "name" else f" <- {row['given']} ({_HOW[row['how']]})"
        yield "  matched", f"{row['name']} {' x '.join(map(str, row['shape'])) or 'scalar'}{given}"
    if len(matched) > _SHOWN:
        yield "  matched", f"and {len(matched) - _SHOWN} more"
    yield from _named("missing", update["missing"], "was not sent")
    yield from _named("unexpected", update["unexpected"], "is no part of the model, and was left out")
    yield from (("note", note) for note in update["notes"])


_KINDS = {
    "gradient": "a gradient",
    "difference": "weights after training less before",
    "weights": "weights after training",
}
_HOW = {"renamed": "renamed", "order": "by order"}


def _named(label: str, names: Sequence[str], what: str) -> Iterator[tuple[str, str]]:
    yield from ((f"  {label}", f"{name} {what}") for name in names[:_SHOWN])
    if len(names) > _SHOWN:
        yield f"  {label}", f"and {len(names) - _SHOWN} more"
