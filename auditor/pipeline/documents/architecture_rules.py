"""What the catalogue of architectures says of a recommendation: on how many nets it helped, and by how much."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from auditor.shipped import shipped

# What a set of layers to keep back is called there; changes of the protocol have the names of the what-ifs.
KEEP_BACK = "keep back"


def catalogue_evidence(rule: str) -> str:
    """Return one sentence, or nothing where the catalogue has no net on which the strongest attacks met the change."""
    data = catalogue()
    held = data["rules"].get(rule)
    if held is None or not held["compared"]:
        return ""
    return (
        f"In the catalogue of {data['nets']} architectures ({data['date']}) it lowered the best attack by 1 dB or more "
        f"on {held['lower']} of {held['compared']} nets where that compares, by {-held['median']:.1f} dB in the median"
    )


@lru_cache(maxsize=1)
def catalogue() -> Mapping[str, Any]:
    """Return the shipped data: `cases`, `structures` of the nets, and `rules`."""
    found: Mapping[str, Any] = json.loads((shipped("report_templates") / "architectures.json").read_text("utf-8"))
    return found
