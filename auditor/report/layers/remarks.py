"""Remarks on layers: a sentence that many layers share is printed once and numbered."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_LONGEST_OWN = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Remarks:
    """Numbered sentences, and for each layer its own words and the numbers that hold for it.

    `closed_forms` lists each flag with the names of the layers that carry it.
    """

    shared: tuple[str, ...]
    own: tuple[tuple[str, ...], ...]
    numbers: tuple[tuple[int, ...], ...]
    closed_forms: tuple[tuple[str, tuple[str, ...]], ...]


def remarks(layers: Sequence[Mapping[str, Any]], known: str | None = None) -> Remarks:
    """Return the remarks on every layer; the sentence `known` is said elsewhere and left out."""
    said = [[s for s in (*layer["flags"], layer["reason"]) if s and s != known] for layer in layers]
    counted = Counter(sentence for sentences in said for sentence in sentences)
    shared = tuple(s for s, times in counted.items() if times > 1 or len(s) > _LONGEST_OWN)
    number = {sentence: n for n, sentence in enumerate(shared, start=1)}
    flags = dict.fromkeys(flag for layer in layers for flag in layer["flags"])
    return Remarks(
        shared=shared,
        own=tuple(tuple(s for s in sentences if s not in number) for sentences in said),
        numbers=tuple(tuple(number[s] for s in sentences if s in number) for sentences in said),
        closed_forms=tuple((flag, tuple(la["name"] for la in layers if flag in la["flags"])) for flag in flags),
    )
