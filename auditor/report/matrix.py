"""The matrix of attack x probe x seed, with cells that did not run left visible."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_COLUMNS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """One block of at most five probes: a row an attack, a cell a list of (seed, result or None)."""

    probes: tuple[str, ...]
    rows: tuple[tuple[Mapping[str, Any], tuple[tuple[tuple[Any, Any], ...], ...]], ...]


def matrices(results: Mapping[str, Any]) -> list[Matrix]:
    """Return the matrix in blocks that fit a page; a None result is a run that did not happen."""
    findings = results["findings"]
    probes = _once([p["name"] for p in results["probes"]] + [r["probe"] for f in findings for r in f["results"]])
    seeds = _once(r["seed"] for f in findings for r in f["results"])
    if not findings or not probes or not seeds:
        return []
    found = {(i, r["probe"], r["seed"]): r for i, f in enumerate(findings) for r in f["results"]}
    return [
        Matrix(
            probes=block,
            rows=tuple(
                (f, tuple(tuple((seed, found.get((i, probe, seed))) for seed in seeds) for probe in block))
                for i, f in enumerate(findings)
            ),
        )
        for start in range(0, len(probes), _COLUMNS)
        if (block := probes[start : start + _COLUMNS])
    ]


def _once(names: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(names))
