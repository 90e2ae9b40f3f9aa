"""The gate's decision as plain lines: every alert with what became of it, then why the gate passed or failed."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from auditor.report.figures import fixed, short_hash
from auditor.text import printable

_STATES = ("new", "worse", "same", "better", "fixed")
_RULE, _SUBJECT = 19, 18


def change_lines(results: Mapping[str, Any], judgement: Mapping[str, Any]) -> list[str]:
    """Return the lines; `judgement` is a `JudgementBlock` as it is written."""
    return [*_head(results, judgement), *_alerts(judgement), *_notes(judgement), *_decision(judgement)]


def counted(judgement: Mapping[str, Any]) -> str:
    """Return how many alerts are in each state, in words; without a baseline how many there are."""
    alerts = judgement["alerts"]
    waived = sum(a["waiver"] is not None for a in alerts)
    more = (f"{waived} waived",) if waived else ()
    if judgement["baseline"] is None:
        return ", ".join((f"{len(alerts)} alert{'s' if len(alerts) != 1 else ''}", *more))
    states = Counter(a["state"] for a in alerts)
    return ", ".join((*(f"{states[state]} {state}" for state in _STATES), *more))


def _head(results: Mapping[str, Any], judgement: Mapping[str, Any]) -> Iterator[str]:
    now = f"{printable(results['model']['name'], 40)} (sha256 {short_hash(results['model']['sha256'])})"
    old = judgement["baseline"]
    if old is None:
        yield f"{now}: {counted(judgement)}"
        return
    before = (
        f"{printable(old['model'], 40)} (sha256 {short_hash(old['sha256'])}, audit {printable(old['audit_id'], 12)})"
    )
    yield f"{now} against {before}: {counted(judgement)}"


def _alerts(judgement: Mapping[str, Any]) -> Iterator[str]:
    for alert in judgement["alerts"]:
        waived = alert["waiver"] is not None
        mark = "waived" if waived else alert["state"] or ""
        severity = f"{fixed(alert['severity']['score'], 1):>4} {alert['severity']['band']:<8}"
        told = alert["reason"] if judgement["baseline"] is not None else alert["message"]
        subject = printable(alert["subject"], 60)
        yield f"  {mark:<6} {severity} {alert['rule']:<{_RULE}} {subject:<{_SUBJECT}} {printable(told, 300)}"


def _notes(judgement: Mapping[str, Any]) -> Iterator[str]:
    if judgement["spread"]:
        yield f"a change is more than {printable(judgement['spread'], 200)}, or intervals that do not overlap"
    yield from (f"warning: {printable(text, 400)}" for text in judgement["warnings"])


def _decision(judgement: Mapping[str, Any]) -> Iterator[str]:
    policy = judgement["policy"]
    if policy["fail_on"] == "never" and policy["inconclusive"] == "pass" and not policy["fail_on_regression"]:
        return  # nothing was asked for
    word = "satisfied" if judgement["passed"] else "failed"
    yield from (f"gate {word}: {printable(reason, 400)}" for reason in judgement["reasons"])
