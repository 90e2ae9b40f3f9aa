"""Small audits that tests of the gate compare: a real one, changed in one place."""

import copy
from pathlib import Path
from typing import Any

from auditor.results.reading import check_results, read_results

STORED = Path(__file__).parent / "stored"


def audit(name: str = "fixed_positions") -> dict[str, Any]:
    """Return a stored audit: `tests/gate/stored/README.md` says of what."""
    return read_results(STORED / f"{name}.json")


def changed(results: dict[str, Any], *changes: tuple[str, Any]) -> dict[str, Any]:
    """Return a copy with values replaced at places such as `findings.0.grade`; the form is still that of results."""
    made = copy.deepcopy(results)
    for place, value in changes:
        *path, last = (int(key) if key.isdigit() else key for key in place.split("."))
        held = made
        for key in path:
            held = held[key]
        held[last] = value
    return made


def checked(results: dict[str, Any]) -> dict[str, Any]:
    """Return the results, which a reader accepts."""
    check_results(results)
    return results
