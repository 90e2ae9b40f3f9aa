"""What a scan returns."""

from collections.abc import Mapping
from typing import Any

from auditor.records import record


@record
class Audit:
    """Everything that was found; `results` is the content of results.json (schema `fl-audit/results/1`)."""

    results: Mapping[str, Any]
