"""What `fl-audit replay` prints for people: does the audit test what is sent, and if not, what differs."""

from collections.abc import Iterator, Mapping
from typing import Any

from auditor.report.figures import fixed, real, tiny
from auditor.report.updates.captured import update_rows

_LABEL = 14
# Explanations that are shown, and parameters, of which those that differ most come first.
_BEST, _TENSORS = 5, 12


def replay_summary(document: Mapping[str, Any]) -> str:
    """Return the comparison, parameter by parameter where the two differ, and what may explain it."""
    return "\n".join(f"{label:<{_LABEL}}{text}".rstrip() for label, text in _rows(document))


def _rows(d: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from update_rows(d["update"])
    yield "clip", f"{d['clip']['name']}, trained as {d['clip']['label']} ({d['clip']['label_from']})"
    yield "difference", f"{tiny(d['difference'])} of the update's norm, cosine {fixed(d['cosine'])}"
    if d["agrees"]:
        yield "agrees", f"within {tiny(d['tolerance'])}: an audit with these options tests what this client sends"
        return
    yield "differs", "an audit with these options does not test what this client sends"
    for tensor in sorted(d["tensors"], key=lambda t: -(real(t["difference"]) or 0.0))[:_TENSORS]:
        yield (
            "  parameter",
            f"{tensor['name']}: sent {tiny(tensor['sent'])}, simulated {tiny(tensor['simulated'])}, difference "
            f"{tiny(tensor['difference'])}, cosine {fixed(tensor['cosine'])}",
        )
    if len(d["tensors"]) > _TENSORS:
        yield "  parameter", f"and {len(d['tensors']) - _TENSORS} that differ less"
    if not d["explained"]:
        yield "not explained", "no cause that was tried leaves less than half of it; is this the clip, and its label?"
    for place, why in enumerate(d["explanations"][:_BEST]):
        label = "  or" if place or not d["explained"] else "best guess"
        yield label, f"{why['text']}: leaves {tiny(why['remaining'])} ({why['cause']})"
    yield from (("not tried", text) for text in d["untried"])
