"""A filter's bound on the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from auditor.text import printable


def to_text(document: Mapping[str, Any]) -> str:
    """Return what was found of a filter, a line each."""
    return "\n".join(_lines(document))


def _lines(d: Mapping[str, Any]) -> Iterator[str]:
    yield f"{printable(d['filter'], 120)}: {d['samples']} runs each, canary of norm {d['norm']:g}, delta {d['delta']:g}"
    if d["unbounded"]:
        yield "epsilon is unbounded: the canary is seen without any noise"
    else:
        yield f"epsilon is at least {d['proven']:.3g} (95%, whatever the noise)"
        if d["if_normal"] is not None:
            yield f"epsilon is at least {d['if_normal']:.3g} if its noise is normal, as it seems"
    if d["claimed"] is not None:
        told = "is contradicted" if d["contradicted"] else "is not contradicted"
        yield f"the claimed epsilon {d['claimed']:g} {told}"
    for tensor in d["tensors"]:
        name = printable(tensor["name"], 40)
        yield f"  {name:<16} noise {tensor['noise']:.2e} an entry, {tensor['passed']:.1%} of the canary comes out"
    for fault in d["faults"]:
        yield f"! {printable(fault, 300)}"
