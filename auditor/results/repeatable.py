"""What of an audit may differ when the same one is made again: when it ran, for how long, and where."""

from collections.abc import Mapping
from typing import Any

# Paths of keys; `*` stands for every place of a list. All else is the same, to the tolerance of arithmetic.
DIFFERS: tuple[tuple[str, ...], ...] = (
    ("tool", "audit_id"),
    ("tool", "started"),
    ("tool", "seconds"),
    ("tool", "command"),
    ("model", "seconds_to_load"),
    ("findings", "*", "results", "*", "enhanced", "*", "seconds"),
    ("scaled_down", "findings", "*", "results", "*", "enhanced", "*", "seconds"),
    ("environment",),
    ("integrity",),  # digests of all of the above
)


def without_times(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of results.json without what may differ from run to run."""
    made: dict[str, Any] = dict(results)
    for path in DIFFERS:
        made = _without(made, path)
    return made


def _without(value: Any, path: tuple[str, ...]) -> Any:
    first, *rest = path
    if first == "*":
        return [_without(v, tuple(rest)) for v in value]
    if not isinstance(value, Mapping) or first not in value:
        return value
    if not rest:
        return {k: v for k, v in value.items() if k != first}
    return {k: _without(v, tuple(rest)) if k == first else v for k, v in value.items()}
