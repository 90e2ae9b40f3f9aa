"""What a file of NVFlare's data exchange objects (DXO) says of its arrays: their kind, and the steps behind them."""

import json
from collections.abc import Mapping
from typing import Any

# NVFlare's names: nvflare.apis.dxo.DataKind and MetaKey.
KINDS = ("WEIGHTS", "WEIGHT_DIFF")
STEPS = "NUM_STEPS_CURRENT_ROUND"
INSIDE = "DXO"
# More steps than this in one round are a damaged number.
_DIGITS = 10
_MOST_STEPS = 10**9


def stated(content: Any) -> dict[str, Any]:
    """Return `kind` and `steps` of a DXO that was saved as a dict, as far as it says them; empty for anything else.

    >>> stated({"data_kind": "WEIGHT_DIFF", "data": {}, "meta": {"NUM_STEPS_CURRENT_ROUND": 3}})
    {'kind': 'WEIGHT_DIFF', 'steps': 3}
    """
    if not isinstance(content, Mapping):
        return {}
    if isinstance(content.get(INSIDE), Mapping):
        content = content[INSIDE]
    kind = content.get("data_kind", content.get("kind"))
    if not isinstance(kind, str) or kind not in KINDS or not isinstance(content.get("data"), Mapping):
        return {}
    meta = content.get("meta")
    return _told(kind, meta.get(STEPS) if isinstance(meta, Mapping) else None)


def stated_in_header(content: bytes) -> dict[str, Any]:
    """Return the same of a safetensors file, whose metadata hold both as texts; empty for files without them."""
    size = int.from_bytes(content[:8], "little")
    said = json.loads(content[8 : 8 + size]).get("__metadata__", {})
    kind, steps = said.get("kind"), str(said.get(STEPS, ""))
    if kind not in KINDS:
        return {}
    return _told(kind, int(steps) if steps.isdecimal() and len(steps) < _DIGITS else None)


def _told(kind: str, steps: Any) -> dict[str, Any]:
    whole = isinstance(steps, int) and not isinstance(steps, bool) and 0 < steps < _MOST_STEPS
    return {"kind": kind, "steps": steps if whole else None}
