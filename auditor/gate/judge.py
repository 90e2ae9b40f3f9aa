"""The gate's decision: alerts, less what somebody answers for, against a policy and a baseline."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from auditor.errors import ExitCode, UsageError
from auditor.gate.comparable import differences
from auditor.gate.compare import Change, compare
from auditor.gate.policy import Policy
from auditor.gate.standing import fingerprint, standings
from auditor.gate.trust import doubts
from auditor.gate.waivers import Waiver, covering, stale, waiver_blocks
from auditor.results.consistency import GRADES
from auditor.results.encode import document
from auditor.results.judgement import AlertBlock, BaselineBlock, JudgementBlock, PlaceBlock, PolicyBlock
from auditor.results.scores import Grade
from auditor.results.severity import Rated
from auditor.text import printable

Results = Mapping[str, Any]
_CONFIDENCE = ("low", "medium", "high")
# Verdicts after which an audit that cannot tell is a step back.
_TOLD_LESS = ("PASS", "WARN")
_REGRESSIONS = ("new", "worse")
_ORDER = ("new", "worse", None, "same", "better", "fixed")


def judge(
    results: Results,
    policy: Policy,
    baseline: Results | None = None,
    waivers: Sequence[Waiver] = (),
    today: datetime.date | None = None,
    place: PlaceBlock | None = None,
) -> dict[str, Any]:
    """Judge checked results, and return the decision as it is written (`JudgementBlock`).

    A waived alert fails nothing, unless it is worse than in the baseline: that was not what somebody agreed to.

    Parameters
    ----------
    today
        The day that waivers are held against; by UTC where it is not given.
    place
        The line that stands for the model.

    Raises
    ------
    UsageError
        The policy asks for regressions, and there is no baseline.
    """
    if policy.fail_on_regression and baseline is None:
        raise UsageError("--fail-on-regression has nothing to compare with", "add --baseline results.json")
    today = today or datetime.datetime.now(datetime.UTC).date()
    spread, found = _alerts(results, baseline)
    covered = covering(found, waivers, results["model"], today)
    alerts = [replace(alert, waiver=covered.get(n)) for n, alert in enumerate(found)]
    before = None if baseline is None else str(baseline["verdict"]["word"])
    code, reasons, decided = decision(results, policy, before, alerts)
    told = waiver_blocks(waivers, alerts, results["model"], today)
    return document(
        JudgementBlock(
            passed=code == ExitCode.GATE_SATISFIED,
            exit_code=int(code),
            reasons=reasons,
            policy=PolicyBlock(
                fail_on=policy.fail_on,
                fail_on_regression=policy.fail_on_regression,
                inconclusive=policy.inconclusive,
                least_confidence=policy.least_confidence,
                levels=policy.levels,
            ),
            baseline=None if baseline is None else _baseline(baseline),
            spread=spread,
            alerts=decided,
            waivers=told,
            warnings=(*(() if baseline is None else differences(baseline, results)), *stale(told, results["model"])),
            place=place,
        )
    )


def decision(
    results: Results, policy: Policy, before: str | None, alerts: Sequence[AlertBlock]
) -> tuple[ExitCode, tuple[str, ...], tuple[AlertBlock, ...]]:
    """Return the gate's exit code, why, and the alerts with those that fail it; `before` is the baseline's verdict."""
    stops = _undecided(results, policy, before, alerts)
    why = [_stop(alert, policy) if not stops else "" for alert in alerts]
    failures = [reason for reason in why if reason]
    code = ExitCode.INCONCLUSIVE if stops else ExitCode.GATE_FAILED if failures else ExitCode.GATE_SATISFIED
    decided = tuple(
        replace(alert, fails=bool(reason) or (bool(stops) and alert.rule == "inconclusive"))
        for alert, reason in zip(alerts, why, strict=True)
    )
    return code, tuple(stops or failures or [_satisfied(policy)]), decided


def judgement_of(results: Results) -> dict[str, Any]:
    """Return how results were judged: as they say, else by their own --fail-on without a baseline.

    Raises
    ------
    UsageError
        What they say hides or contradicts their findings.
    """
    held = results.get("judgement")
    if not held:
        return judge(results, Policy(fail_on=results["verdict"]["gate"]["fail_on"]))
    doubt = next(doubts(results, held), None)
    if doubt is not None:
        raise UsageError(
            f"the judgement contradicts the findings: {printable(doubt, 300)}", "apply the gate again: fl-audit gate"
        )
    return dict(held)


def _alerts(results: Results, baseline: Results | None) -> tuple[str, tuple[AlertBlock, ...]]:
    """Return what counts as a change, in words, and every alert, what needs a look first."""
    if baseline is None:
        # Every layer is exposed somewhat: without a baseline that says nothing that the whole does not.
        shown = [s for s in standings(results).values() if s.present and s.rule != "layer-exposure"]
        told, changes = "", tuple(Change(s, s.key, "same", "", True) for s in shown)
    else:
        spread, changes = compare(baseline, results)
        told = spread.words
    known = _fingerprints(baseline)
    made = [_alert(change, known, baseline is not None) for change in changes]
    return told, tuple(sorted(made, key=lambda a: (_ORDER.index(a.state), -(a.severity.score or 0.0))))


def _fingerprints(baseline: Results | None) -> dict[tuple[str, str, str], str]:
    """Fingerprints that the baseline gave: a layer that is renamed twice keeps its first."""
    held = (baseline or {}).get("judgement") or {"alerts": ()}
    return {(a["rule"], a["subject"], a["threat_model"]): a["fingerprint"] for a in held["alerts"]}


def _alert(change: Change, known: Mapping[tuple[str, str, str], str], compared: bool) -> AlertBlock:
    s = change.now
    return AlertBlock(
        rule=s.rule,
        subject=s.subject,
        threat_model=s.threat_model,
        layer=s.layer,
        fingerprint=known.get(change.key) or fingerprint(change.key),
        grade=None if s.grade is None else Grade[GRADES[s.grade]],
        severity=Rated(score=s.severity["score"] or 0.0, vector=s.severity["vector"]),
        message=s.message,
        state=change.state if compared else None,
        clear=change.clear,
        reason=change.reason,
        waiver=None,
        fails=False,
    )


def _undecided(results: Results, policy: Policy, before: str | None, alerts: Sequence[AlertBlock]) -> list[str]:
    """Why the audit cannot tell, as far as the policy minds; empty where it can."""
    if policy.inconclusive == "pass" or policy.off("inconclusive"):
        return []
    verdict, level = results["verdict"], results["confidence"]["level"]
    if policy.fail_on_regression and results.get("machine_cuts"):
        return ["this audit was cut by its machine, and cannot tell whether anything is worse: give it more time"]
    if verdict["word"] == "INCONCLUSIVE" and not _expected(results, policy, before, alerts):
        return [f"the audit cannot tell: {reason}" for reason in verdict["reasons"]]
    if verdict["word"] in _TOLD_LESS and _CONFIDENCE.index(level) < _CONFIDENCE.index(policy.least_confidence):
        return [f"confidence is {level}, and the gate asks for {policy.least_confidence}"]
    return []


def _expected(results: Results, policy: Policy, before: str | None, alerts: Sequence[AlertBlock]) -> bool:
    """Tell whether an audit may be unable to tell: somebody answers for it, or it was no better before.

    Never where a control that must hold did not, or did not run: such an audit did not look.
    """
    if any(a.rule == "inconclusive" and a.waiver is not None for a in alerts):
        return True
    if policy.inconclusive != "new" or before is None or before in _TOLD_LESS:
        return False
    needed = [c["passed"] for c in results["controls"] if c["kind"] in ("positive", "simulation")]
    return all(needed) and not results.get("machine_cuts")


def _stop(alert: AlertBlock, policy: Policy) -> str:
    """Say why an alert fails the gate; empty where it does not."""
    severe = alert.waiver is None and alert.state != "fixed" and policy.stops_at(alert.rule, alert.severity.band)
    if severe:
        level = policy.band(alert.rule, alert.severity.band)
        return f"{alert.rule} ({alert.subject}) is {level}, and the gate stops at {policy.fail_on}"
    if policy.fail_on_regression and _regression(alert) and not policy.off(alert.rule):
        return f"{alert.rule} ({alert.subject}) is {alert.state}: {alert.reason}"
    return ""


def _regression(alert: AlertBlock) -> bool:
    """Tell whether an alert is clearly new or worse; what somebody answers for may be new, and not worse than that."""
    # The policy has a word of its own for the one; the other says where, and update-exposure whether: a layer that was
    # put in exposes what others exposed before.
    if alert.rule in ("inconclusive", "layer-exposure"):
        return False
    return alert.clear and alert.state in _REGRESSIONS and (alert.waiver is None or alert.state == "worse")


def _satisfied(policy: Policy) -> str:
    regressions = " and nothing is worse than in the baseline" if policy.fail_on_regression else ""
    if policy.fail_on == "never":
        return f"no severity fails this gate{regressions}"
    return f"nothing of severity {policy.fail_on} or above{regressions}"


def _baseline(results: Results) -> BaselineBlock:
    return BaselineBlock(
        audit_id=results["tool"]["audit_id"],
        version=results["tool"]["version"],
        started=results["tool"]["started"],
        model=results["model"]["name"],
        sha256=results["model"]["sha256"],
        verdict=results["verdict"]["word"],
    )
