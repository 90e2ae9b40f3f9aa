"""The gate's decision as the report shows it: policy, alerts with what became of them, waivers and their owners."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from auditor.gate.judge import judgement_of
from auditor.gate.rules import BY_RULE
from auditor.report.ci.plain_words import waiver_of
from auditor.report.figures import fixed, short_hash
from auditor.report.language import say, say_many
from auditor.report.wording import BANDS

Results = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AlertRow:
    """One alert: `state` in words (empty without a baseline), `answer` names who answers for it, or is empty."""

    state: str
    rule: str
    subject: str
    severity: str
    told: str
    answer: str
    reason: str
    fails: bool


@dataclass(frozen=True, slots=True)
class GateSection:
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


def shown(results: Results) -> GateSection | None:
    """Return what was decided; None where no gate was applied.

    Raises
    ------
    UsageError
        The judgement contradicts the findings.
    """
    if not results.get("judgement"):
        return None
    judgement = judgement_of(results)
    compared = judgement["baseline"] is not None
    return GateSection(
        word=say("Gate satisfied") if judgement["passed"] else say("Gate failed"),
        counted=_counted(judgement["alerts"], compared),
        reasons=tuple(judgement["reasons"]),
        policy=tuple(_policy(judgement["policy"])),
        baseline=_baseline(judgement["baseline"]),
        spread=judgement["spread"],
        compared=compared,
        alerts=tuple(_row(alert, judgement) for alert in judgement["alerts"]),
        waivers=tuple({**w, "became": _became(w["state"])} for w in judgement["waivers"]),
        warnings=tuple(judgement["warnings"]),
    )


def _counted(alerts: Any, compared: bool) -> str:
    """Say how many alerts are in each state; without a baseline how many there are."""
    waived = sum(alert["waiver"] is not None for alert in alerts)
    more = [say("%(n)s waived", n=waived)] if waived else []
    if not compared:
        return ", ".join([say_many("%(n)s alert", "%(n)s alerts", len(alerts)), *more])
    states = [alert["state"] for alert in alerts]
    told = [
        say("%(n)s new", n=states.count("new")),
        say("%(n)s worse", n=states.count("worse")),
        say("%(n)s same", n=states.count("same")),
        say("%(n)s better", n=states.count("better")),
        say("%(n)s fixed", n=states.count("fixed")),
    ]
    return ", ".join([*told, *more])


def _state(state: str | None) -> str:
    words = {
        "new": say("New"),
        "worse": say("Worse"),
        "same": say("Same"),
        "better": say("Better"),
        "fixed": say("Fixed"),
    }
    return "" if state is None else words[state]


def _became(state: str) -> str:
    words = {
        "used": say("holds"),
        "expired": say("expired: what it covered is open again"),
        "unused": say("covers nothing"),
        "elsewhere": say("for another model"),
    }
    return words[state]


def _row(alert: Mapping[str, Any], judgement: Mapping[str, Any]) -> AlertRow:
    waiver = waiver_of(alert, judgement)
    severity, answer = alert["severity"], ""
    if waiver is not None:
        answer = say("waived by %(owner)s until %(day)s:", owner=waiver["owner"], day=waiver["expires"])
    return AlertRow(
        state=_state(alert["state"]),
        rule=BY_RULE[alert["rule"]].short if alert["rule"] in BY_RULE else alert["rule"],
        subject=alert["subject"],
        severity=f"{fixed(severity['score'], 1)} {say(BANDS[severity['band']])}",
        told=alert["reason"] or alert["message"],
        answer=answer,
        reason="" if waiver is None else waiver["reason"],
        fails=bool(alert["fails"]),
    )


def _policy(policy: Mapping[str, Any]) -> Iterator[str]:
    level = policy["fail_on"]
    if level == "never":
        yield say("no severity fails")
    else:
        yield say("severity %(level)s and above fails", level=say(BANDS[level]) if level in BANDS else level)
    if policy["fail_on_regression"]:
        yield say("what is new or worse than in the baseline fails")
    undecided = {
        "fail": say("an audit that cannot tell fails"),
        "new": say("an audit that cannot tell fails where the baseline could"),
        "pass": say("an audit that cannot tell passes"),
    }
    yield undecided[policy["inconclusive"]]
    if policy["least_confidence"] != "low":
        yield say("a PASS or WARN needs confidence of at least %(level)s", level=policy["least_confidence"])
    yield from (say("%(rule)s counts as %(level)s", rule=r, level=v) for r, v in policy["levels"].items())


def _baseline(block: Mapping[str, Any] | None) -> str:
    if block is None:
        return say("none: nothing was compared")
    return say(
        "%(model)s (SHA-256 %(hash)s), audit %(audit)s of %(day)s, version %(version)s, verdict %(verdict)s",
        model=block["model"],
        hash=short_hash(block["sha256"]),
        audit=block["audit_id"],
        day=block["started"],
        version=block["version"],
        verdict=block["verdict"],
    )
