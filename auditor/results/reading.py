"""Read documents of this program: checked down to the last value that a report shows, whoever wrote them."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from auditor.errors import UsageError
from auditor.results.audit import AUDIT, AuditDocument
from auditor.results.comparison import COMPARISON, ComparisonDocument
from auditor.results.consistency import contradictions
from auditor.results.protection.defend import DEFEND, DefendDocument
from auditor.results.protection.seal import SEAL, UNSEALED, broken_seal
from auditor.results.refusal import check
from auditor.results.study import STUDY, StudyDocument
from auditor.results.upgrade import AUDIT_1, upgraded
from auditor.text import printable


def check_results(results: Any, name: str = "the results") -> None:
    """Raise UsageError, in one line, unless `results` has the form that docs/results.md gives."""
    schema = results.get("schema") if isinstance(results, dict) else None
    if schema != AUDIT:
        raise UsageError(
            f"{printable(name)} is not of schema {AUDIT} (found {printable(str(schema), 60)})",
            "give a results.json that this version of fl-audit wrote",
        )
    check(results, AuditDocument, name, "run the scan again: the file is not as it was written")
    found = contradictions(results)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise UsageError(
            f"{printable(name)} contradicts itself: {printable(found[0], 300)}{more}",
            "run the scan again: the file is not as it was written",
        )


def read_results(path: Path | str) -> dict[str, Any]:
    """Read a results.json of this schema or of schema 1, and return its content as of this schema.

    Raises
    ------
    UsageError
        The file is missing, not JSON, of another schema, lacks something, contradicts itself, or is not as it was
        sealed.
    """
    name = str(path)
    try:
        results = _loaded(path)
    except OSError as error:
        raise UsageError(
            f"cannot read {printable(name)} ({error.strerror or type(error).__name__})",
            "give the path of a results.json",
        ) from None
    except (ValueError, RecursionError):
        raise UsageError(f"{printable(name)} is not JSON", "give the results.json that a scan wrote") from None
    if isinstance(results, dict) and results.get("schema") == AUDIT_1:
        results = upgraded(results, AUDIT)
    check_results(results, name)
    told = broken_seal(results)
    if told:
        raise UsageError(
            f"{printable(name)} was edited after it was written ({printable(told, 300)})",
            "restore the file, or run the scan again; fl-audit verify tells more",
        )
    return dict(results) if results.get(SEAL) else {**results, UNSEALED: True}


def check_study(results: Mapping[str, Any], name: str = "the study") -> None:
    """Raise UsageError, in one line, unless `results` has the form that docs/study.md gives."""
    check(results, StudyDocument, name, "run the study again: the file is not as it was written")


def read_defend(path: Path) -> dict[str, Any] | None:
    """Return the content of a defend.json, checked; None where the file is none, or cannot be read at all."""
    found = _of_schema(path, DEFEND)
    if found is not None:
        check(found, DefendDocument, str(path), "run fl-audit defend again: the file is not as it was written")
    return found


def read_study(path: Path) -> dict[str, Any] | None:
    """Return the content of a study.json, checked; None where the file is no study, or cannot be read at all."""
    found = _of_schema(path, STUDY)
    if found is not None:
        check_study(found, str(path))
    return found


def _of_schema(path: Path, schema: str) -> dict[str, Any] | None:
    try:
        found = _loaded(path)
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.get("schema") == schema else None


def check_comparison(results: Mapping[str, Any], name: str = "the comparison") -> None:
    """Raise UsageError, in one line, unless `results` has the form that docs/compare.md gives."""
    check(results, ComparisonDocument, name, "compare the models again: the file is not as it was written")


def read_comparison(path: Path) -> dict[str, Any] | None:
    """Return the content of a comparison.json, checked; None where the file is none, or cannot be read at all."""
    found = _of_schema(path, COMPARISON)
    if found is not None:
        check_comparison(found, str(path))
    return found


def parsed(content: bytes) -> Any:
    """Return JSON as values; ValueError for what readers differ in: a key that is there twice, numbers without end."""
    return json.loads(content, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_each_once)


def _loaded(path: Path | str) -> Any:
    return parsed(Path(path).read_bytes())


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key that is there twice: readers differ in which of the two they take."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found
