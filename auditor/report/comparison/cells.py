"""One row of a comparison as a reader sees it, the same in every format."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from auditor.report.figures import MISSING, decibels, real, whole

HEAD = (
    "Rank",
    "Model",
    "Verdict",
    "Leakage",
    "To the baseline",
    "Best",
    "Exposed",
    "Determined",
    "Parameters",
    "Operations",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRow:
    """The cells of one model."""

    rank: str
    name: str
    word: str
    leakage: str
    difference: str
    best: str
    exposed: str
    determined: str
    parameters: str
    operations: str

    @property
    def cells(self) -> tuple[str, ...]:
        """In the order of `HEAD`."""
        return (
            self.rank, self.name, self.word, self.leakage, self.difference, self.best, self.exposed, self.determined,
            self.parameters, self.operations,
        )  # fmt: skip


def rows(results: Mapping[str, Any]) -> list[ComparedRow]:
    """Return a row for every model, in order of leakage."""
    return [_row(c) for c in results["candidates"]]


def _row(c: Mapping[str, Any]) -> ComparedRow:
    return ComparedRow(
        rank=rank(c),
        name=c["name"] + (" (baseline)" if c["baseline"] else ""),
        word=c["word"] or "not measured",
        leakage=interval(c["leakage"]),
        difference=interval(c["difference"], signed=True),
        best=decibels(c["best"]),
        exposed=decibels(c["exposed"]),
        determined=MISSING if c["determined"] is None else f"{c['determined']['layers']} of {c['determined']['of']}",
        parameters=whole(c["parameters"]),
        operations=operations(c["operations"]),
    )


def rank(c: Mapping[str, Any]) -> str:
    """Return the ranks that the interval allows.

    >>> rank({"first_rank": 1, "last_rank": 1}), rank({"first_rank": 2, "last_rank": 4})
    ('1', '2 to 4')
    """
    if c["first_rank"] is None:
        return MISSING
    first, last = c["first_rank"], c["last_rank"]
    return str(first) if first == last else f"{first} to {last}"


def interval(found: Mapping[str, Any] | None, signed: bool = False) -> str:
    """Return a mean with its interval, or that there is none.

    >>> interval({"mean": 40.0, "low": 31.04, "high": 49.0}), interval({"mean": 1.0, "low": None, "high": None})
    ('40.0 dB (31.0 to 49.0)', '1.0 dB (no interval)')
    """
    if found is None or real(found["mean"]) is None:
        return MISSING
    between = (
        "no interval"
        if found["low"] is None
        else " to ".join(decibels(found[end], signed=signed, unit=False) for end in ("low", "high"))
    )
    return f"{decibels(found['mean'], signed=signed)} ({between})"


def operations(count: Any) -> str:
    """Return floating-point operations in the unit that fits.

    >>> operations(1_234_000), operations(25.4e9), operations(None)
    ('1.2 M', '25.4 G', '—')
    """
    number = real(count)
    if number is None:
        return MISSING
    scale, unit = next(((s, u) for s, u in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")) if number >= s), (1.0, ""))
    return f"{number / scale:.1f} {unit}".strip()


def attack_names(results: Mapping[str, Any]) -> Sequence[str]:
    """Return every attack that ran on any model, the one that found most first."""
    best: dict[str, float] = {}
    for c in results["candidates"]:
        for a in c["attacks"]:
            best[a["attack"]] = max(best.get(a["attack"], 0.0), real(a["gain"]) or 0.0)
    return sorted(best, key=lambda name: -best[name])


def attack_cell(c: Mapping[str, Any], name: str) -> str:
    """Return what an attack recovered of a model; a dash where it did not run or does not apply."""
    found = next((a for a in c["attacks"] if a["attack"] == name), None)
    if found is None:
        return MISSING
    return decibels(found["gain"], signed=True, unit=False) + ("" if found["counts"] else " *")


def asides(results: Mapping[str, Any]) -> list[str]:
    """Return every sentence that belongs under the table: what was not measured or not compared, ties and notes."""
    told = list(results["notes"])
    for c in results["candidates"]:
        if c["skipped"]:
            told.append(f"{c['name']} was not measured: {c['skipped']}")
        if c["ties"]:
            told.append(f"{c['name']} ties with {', '.join(c['ties'])}: their intervals overlap.")
        if c["not_compared"]:
            told.append(f"Nothing is recommended by {c['name']}: {c['not_compared']}.")
        told += [f"{c['name']}: {note}." for note in c["notes"]]
        if c["weights"]:
            told.append(f"Weights of {c['name']}: {c['weights'].rstrip('.')}.")
    return told
