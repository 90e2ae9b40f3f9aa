"""The JSON Schema of every document, from the types of its records."""

from typing import Any

import msgspec

from auditor.errors import UsageError
from auditor.results.attack import AttackDocument
from auditor.results.audit import AuditDocument
from auditor.results.comparison import ComparisonDocument
from auditor.results.inspection import InspectionDocument
from auditor.results.protection.defend import DefendDocument
from auditor.results.study import StudyDocument
from auditor.results.updates.captured import CapturedDocument
from auditor.results.updates.replay import ReplayDocument
from auditor.results.wire import wire
from auditor.text import printable

DOCUMENTS: dict[str, type[Any]] = {
    "audit": AuditDocument,
    "attack": AttackDocument,
    "study": StudyDocument,
    "inspection": InspectionDocument,
    "captured": CapturedDocument,
    "replay": ReplayDocument,
    "defend": DefendDocument,
    "comparison": ComparisonDocument,
}


def json_schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a document, by its name in `DOCUMENTS`.

    Raises
    ------
    UsageError
        There is no document of that name.
    """
    if name not in DOCUMENTS:
        raise UsageError(f"there is no document '{printable(name, 40)}'", f"use {', '.join(DOCUMENTS)}")
    found = msgspec.json.schema(wire(DOCUMENTS[name]))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"fl-audit {name}", **found}
