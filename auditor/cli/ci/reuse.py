"""Results of an earlier scan, where nothing that they depend on has changed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from auditor.cli.screen import stderr
from auditor.errors import UsageError
from auditor.results.protection.seal import SEAL, UNSEALED
from auditor.text import printable


def reusable(key: str, targets: Sequence[Path]) -> tuple[Path, dict[str, Any]] | None:
    """Return the results.json among the targets that an equal scan wrote, with its content; None where there is none.

    Results that their machine cut short are not taken: more time may find more.
    """
    from auditor.results.reading import read_results

    for path in targets:
        if not key or path.suffix.lower() != ".json" or not _says(path, key):
            continue
        try:
            found = read_results(path)
        except UsageError:
            continue  # it is about to be replaced
        if found["tool"].get("key") == key and not found.get("machine_cuts") and not found.get(UNSEALED):
            stderr().print(
                f"nothing changed since {printable(str(path))} was written (audit {found['tool']['audit_id']}): its "
                "results are taken again; --no-reuse scans anew",
                markup=False, highlight=False, soft_wrap=True,
            )  # fmt: skip
            return path, found
    return None


def outdated(results: Mapping[str, Any], held: tuple[Path, Mapping[str, Any]], targets: Sequence[Path]) -> list[Path]:
    """Return the targets that do not show these results: all where the gate or the document says otherwise now."""
    path, before = held
    if _decided(results) != _decided(before):
        return list(targets)
    written = path.stat().st_mtime
    return [
        target for target in targets if not target.exists() or (target != path and target.stat().st_mtime < written)
    ]


def _decided(results: Mapping[str, Any]) -> str:
    signature = (results.get(SEAL) or {}).get("signature")
    return json.dumps([results.get("judgement"), results.get("context"), signature], sort_keys=True)


def _says(path: Path, key: str) -> bool:
    """Look for the digest before the whole document is read."""
    try:
        return key.encode() in path.read_bytes()
    except OSError:
        return False
