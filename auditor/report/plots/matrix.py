"""The matrix of attack x probe x seed, with runs that did not happen left visible."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_COLUMNS = 5

Runs = tuple[Mapping[str, Any] | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """One block of at most five probes: a row an attack, a cell its runs, None for one that did not happen."""

    probes: tuple[str, ...]
    rows: tuple[tuple[Mapping[str, Any], tuple[Runs, ...]], ...]


def matrices(results: Mapping[str, Any]) -> list[Matrix]:
    """Return the matrix in blocks that fit a page.

    Seeds differ from unit to unit, so runs are counted: an attack owes every probe as many as it gave to any.
    """
    findings = results["findings"]
    names = [p["name"] for p in results["probes"]] + [r["probe"] for f in findings for r in f["results"]]
    probes = tuple(dict.fromkeys(names))
    if not findings:
        return []
    return [
        Matrix(probes=block, rows=tuple((finding, _cells(finding, block, probes)) for finding in findings))
        for start in range(0, len(probes), _COLUMNS)
        if (block := probes[start : start + _COLUMNS])
    ]


def _cells(finding: Mapping[str, Any], block: tuple[str, ...], probes: tuple[str, ...]) -> tuple[Runs, ...]:
    runs = {probe: tuple(r for r in finding["results"] if r["probe"] == probe) for probe in probes}
    owed = max(1, *(len(done) for done in runs.values()))
    return tuple(runs[probe] + (None,) * (owed - len(runs[probe])) for probe in block)
