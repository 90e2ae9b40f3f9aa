"""Results of schema 1 as schema 2: renamed keys, and what was optional is there."""

from collections.abc import Iterator, Mapping
from typing import Any

AUDIT_1 = "fl-audit/results/1"

_PROTOCOL = {"batchnorm": "bn"}
_LOCAL = {"epochs": "local_epochs", "batch": "local_batch", "rate": "learning_rate"}
_FACES = {"null enhanced": "null_enhanced"}
_OLD_PROTOCOL = {
    "frozen": 0,
    "dropout": "off",
    "local": None,
    "output": {"name": "", "frames": 0, "activation": "none", "pool": None},
    "update": {"gradients": 0, "buffers": []},
}
_OLD_FINDING = {
    "configuration": "",
    "counts": True,
    "null_recall": None,
    "null_bits": None,
}
_OLD_RESULT = {"kind": "", "repetition": 0}
_NO_FACES = dict.fromkeys(("reconstruction", "enhanced", "null", "null_enhanced"))


def upgraded(results: Mapping[str, Any], schema: str) -> dict[str, Any]:
    """Return results of schema 1 under `schema`, the present one; what is misshapen stays as it is, to be refused."""
    found = {**results, "schema": schema}
    _replace(found, "tool", lambda tool: {"options": {}, **tool})
    _replace(found, "protocol", _protocol)
    for finding in _each(found, "findings"):
        _fill(finding, {**_OLD_FINDING, "reference_frames": 0 if finding.get("reference") == "R0" else 1})
        _replace(finding, "faces", lambda faces: {**_NO_FACES, **_renamed(faces, _FACES)})
        for result in _each(finding, "results"):
            _fill(result, _OLD_RESULT)
            for entry in _each(result, "enhanced"):
                _fill(entry, {"sharpness": None})
                _replace(entry, "null", lambda null: {"sharpness": None, **null})
    return found


def _protocol(protocol: Mapping[str, Any]) -> dict[str, Any]:
    found = {**_OLD_PROTOCOL, **_renamed(protocol, _PROTOCOL)}
    _replace(found, "local", lambda local: _renamed(local, _LOCAL))
    return found


def _renamed(block: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in block.items()}


def _replace(block: dict[str, Any], name: str, change: Any) -> None:
    if isinstance(block.get(name), Mapping):
        block[name] = change(block[name])


def _fill(block: dict[str, Any], missing: Mapping[str, Any]) -> None:
    for name, value in missing.items():
        block.setdefault(name, value)


def _each(block: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """Yield every object of a list, as a copy that takes its place."""
    items = block.get(name)
    if not isinstance(items, list):
        return
    block[name] = [dict(item) if isinstance(item, Mapping) else item for item in items]
    yield from (item for item in block[name] if isinstance(item, dict))
