"""Results as plain JSON: one way to write them, and one digest that names them."""

import json
import math
from collections.abc import Mapping
from typing import Any

from auditor.results.protection.seal import content_digest


def plain(value: Any) -> Any:
    """Return `value` as JSON knows it: infinities as `inf` and `-inf`, not-a-number as null, tuples as lists.

    >>> plain({"psnr": float("inf"), "frames": (0, 1)})
    {'psnr': 'inf', 'frames': [0, 1]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def to_json(results: Mapping[str, Any]) -> str:
    """Return the text of results.json.

    ASCII only, so that a file name with broken characters cannot stop an audit at its last step.
    """
    return json.dumps(plain(results), indent=1, allow_nan=False) + "\n"


def results_digest(results: Mapping[str, Any]) -> str:
    """Return the SHA-256 (hex) of the canonical JSON without the seal: sorted keys, no white space, ASCII.

    >>> results_digest({"b": 1, "a": (2,)}) == results_digest({"a": [2], "b": 1, "integrity": None})
    True
    """
    return content_digest(plain(results))
