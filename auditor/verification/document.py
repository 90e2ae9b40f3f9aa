"""Verify a results.json: its seal, its signature, and everything in it that follows from something else in it."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from auditor.errors import UsageError
from auditor.results.audit import AUDIT, AuditDocument
from auditor.results.consistency import contradictions
from auditor.results.protection.seal import SEAL, UNSEALED, broken_seal
from auditor.results.reading import parsed
from auditor.results.refusal import check
from auditor.results.upgrade import AUDIT_1, upgraded
from auditor.results.version import __version__
from auditor.text import printable
from auditor.verification.check import Verified
from auditor.verification.finding_values import finding_doubts
from auditor.verification.judgement_values import judgement_doubts
from auditor.verification.pictures import picture_doubts
from auditor.verification.score_values import interval_doubts, score_doubts
from auditor.verification.verdict_values import verdict_doubts

Results = Mapping[str, Any]
_MOST_TOLD = 4


def read_unverified(content: bytes, name: str) -> dict[str, Any]:
    """Return the results that bytes hold, of the form of results and no more than that.

    Raises
    ------
    UsageError
        They are no JSON, a key is there twice, or the form is not that of results.
    """
    try:
        found = parsed(content)
    except (ValueError, RecursionError) as error:
        why = str(error) if not isinstance(error, json.JSONDecodeError) else "broken off, or no JSON"
        raise UsageError(
            f"{printable(name)} cannot be read ({printable(why, 80)})", "give a file that fl-audit wrote"
        ) from None
    if isinstance(found, dict) and found.get("schema") == AUDIT_1:
        found = upgraded(found, AUDIT)
    check(found, AuditDocument, name, "give the results.json of a scan: the form is not that of one")
    if found["schema"] != AUDIT:
        raise UsageError(f"{printable(name)} is not of schema {AUDIT}", "give the results.json of a scan")
    return dict(found)


def verify_results(results: Results, public: str | None = None, baseline: Results | None = None) -> list[Verified]:
    """Return what was verified of results of the right form.

    Parameters
    ----------
    public
        The public key (hex) that they must be signed with.
    baseline
        What they were judged against, to make the judgement again.
    """
    return [
        _seal(results),
        *_signature(results, public),
        _none("parts of the audit agree with one another", contradictions(results)),
        *_recomputed(results),
        *_judgement(results, baseline),
    ]


def _seal(results: Results) -> Verified:
    name = "content is as it was written"
    told = broken_seal(results)
    if told:
        return Verified(name, False, told)
    if not results.get(SEAL):
        return Verified(name, None, "there is no digest: an earlier version wrote it, or it was taken out")
    if results.get(UNSEALED):
        return Verified(
            name, None, "its digest was made of a file that had none: what was edited before cannot be told"
        )
    parts = results[SEAL]["parts"]
    return Verified(name, True, f"SHA-256 {results[SEAL]['digest']}, {len(parts)} parts, pictures among them")


def _signature(results: Results, public: str | None) -> Iterator[Verified]:
    block = (results.get(SEAL) or {}).get("signature")
    name = "signature"
    if block is None:
        if public is not None:
            yield Verified(name, False, "it is not signed, and a key was given")
        return
    from auditor.verification.signing import holds

    told = f"Ed25519, key {printable(block['key'], 64)}"
    try:
        valid = holds(results)
    except UsageError as error:
        yield Verified(name, None, str(error))
        return
    if not valid:
        yield Verified(name, False, f"it is not one of this content by the key that it names ({told})")
    elif public is None:
        yield Verified(name, True, f"by the key that it names ({told}); --public-key tells whether that is yours")
    elif block["key"] != public:
        yield Verified(name, False, f"it was signed with another key ({told})")
    else:
        yield Verified(name, True, f"by the key that was given ({told})")


def _recomputed(results: Results) -> Iterator[Verified]:
    checks: Iterable[tuple[str, Callable[[Results], Iterable[str]]]] = (
        ("intervals follow from their counts", interval_doubts),
        ("scores follow from their frames and baselines", score_doubts),
        ("grades, severities and sentences follow from scores", finding_doubts),
        ("verdict and severity follow from findings", verdict_doubts),
        ("pictures are pictures, and show what their scores say", picture_doubts),
    )
    version = results["tool"]["version"]
    if not results.get(SEAL) or version != __version__:
        yield Verified(
            "what follows from other values", None, f"its rules are those of version {printable(version, 20)}"
        )
        return
    for name, doubts in checks:
        yield _none(name, _guarded(doubts, results))


def _judgement(results: Results, baseline: Results | None) -> Iterator[Verified]:
    held = results.get("judgement")
    if not held:
        return
    name = "the gate's decision follows from findings, policy and waivers"
    doubts = _guarded(lambda found: judgement_doubts(found, baseline), results)
    check_made = _none(name, doubts)
    if check_made.passed and held["baseline"] is not None and baseline is None:
        told = "as far as can be told without the baseline; give --baseline to compare again"
        check_made = Verified(name, True, told)
    yield check_made


def _guarded(doubts: Callable[[Results], Iterable[str]], results: Results) -> list[str]:
    """Values that no scan writes may break arithmetic: that is a doubt, too."""
    try:
        return list(doubts(results))
    except (KeyError, ValueError, TypeError, IndexError, OverflowError, ZeroDivisionError) as error:
        return [f"it cannot be computed from such values ({type(error).__name__})"]


def _none(name: str, doubts: Iterable[str]) -> Verified:
    found = list(doubts)
    if not found:
        return Verified(name, True, "")
    more = f" (and {len(found) - _MOST_TOLD} more)" if len(found) > _MOST_TOLD else ""
    return Verified(name, False, printable("; ".join(found[:_MOST_TOLD]), 900) + more)
