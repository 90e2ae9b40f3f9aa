"""The gate's decision as the report shows it: policy, alerts with what became of them, waivers and their owners."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from auditor.gate.judge import judgement_of
from auditor.gate.rules import BY_RULE
from auditor.report.ci.changes import counted
from auditor.report.ci.plain_words import waiver_of
from auditor.report.figures import fixed, short_hash

Results = Mapping[str, Any]

STATES: Mapping[str, str] = {
    "new": "New",
    "worse": "Worse",
    "same": "Same",
    "better": "Better",
    "fixed": "Fixed",
}
WAIVER_STATES: Mapping[str, str] = {
    "used": "holds",
    "expired": "expired: what it covered is open again",
    "unused": "covers nothing",
    "elsewhere": "for another model",
}
_INCONCLUSIVE: Mapping[str, str] = {
    "fail": "an audit that cannot tell fails",
    "new": "an audit that cannot tell fails where the baseline could",
    "pass": "an audit that cannot tell passes",
}


@dataclass(frozen=True, slots=True)
class AlertRow:
    """One alert: `state` in words (empty without a baseline), `answer` names who answers for it, or is empty."""

    state: str
    rule: str
    subject: str
    severity: str
    told: str
    change: str
    answer: str
    fails: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """What the section on the gate says."""

    word: str
    counted: str
    reasons: tuple[str, ...]
    policy: tuple[str, ...]
    baseline: str
    spread: str
    compared: bool
    alerts: tuple[AlertRow, ...]
    waivers: tuple[Mapping[str, Any], ...]
    warnings: tuple[str, ...]


def shown(results: Results) -> Shown | None:
    """Return what was decided; None where no gate was applied.

    Raises
    ------
    UsageError
        The judgement contradicts the findings.
    """
    if not results.get("judgement"):
        return None
    judgement = judgement_of(results)
    return Shown(
        word="satisfied" if judgement["passed"] else "failed",
        counted=counted(judgement),
        reasons=tuple(judgement["reasons"]),
        policy=tuple(_policy(judgement["policy"])),
        baseline=_baseline(judgement["baseline"]),
        spread=judgement["spread"],
        compared=judgement["baseline"] is not None,
        alerts=tuple(_row(alert, judgement) for alert in judgement["alerts"]),
        waivers=tuple({**w, "became": WAIVER_STATES[w["state"]]} for w in judgement["waivers"]),
        warnings=tuple(judgement["warnings"]),
    )


def _row(alert: Mapping[str, Any], judgement: Mapping[str, Any]) -> AlertRow:
    waiver = waiver_of(alert, judgement)
    severity = alert["severity"]
    return AlertRow(
        state="" if alert["state"] is None else STATES[alert["state"]],
        rule=BY_RULE[alert["rule"]].short if alert["rule"] in BY_RULE else alert["rule"],
        subject=alert["subject"],
        severity=f"{fixed(severity['score'], 1)} {severity['band']}",
        told=alert["message"],
        change=alert["reason"],
        answer="" if waiver is None else f"waived by {waiver['owner']} until {waiver['expires']}: {waiver['reason']}",
        fails=bool(alert["fails"]),
    )


def _policy(policy: Mapping[str, Any]) -> Iterator[str]:
    never = policy["fail_on"] == "never"
    yield "no severity fails" if never else f"severity {policy['fail_on']} and above fails"
    if policy["fail_on_regression"]:
        yield "what is new or worse than in the baseline fails"
    yield _INCONCLUSIVE[policy["inconclusive"]]
    if policy["least_confidence"] != "low":
        yield f"confidence of at least {policy['least_confidence']} is asked for"
    yield from (f"{rule} counts as {level}" for rule, level in policy["levels"].items())


def _baseline(block: Mapping[str, Any] | None) -> str:
    if block is None:
        return ""
    return (
        f"{block['model']} (SHA-256 {short_hash(block['sha256'])}), audit {block['audit_id']} of {block['started']}, "
        f"version {block['version']}, verdict {block['verdict']}"
    )
