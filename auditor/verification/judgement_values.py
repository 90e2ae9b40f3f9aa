"""The gate's decision, made again from findings, policy, waivers and, where it is given, the baseline."""

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from auditor.errors import UsageError
from auditor.gate.judge import decision, judge
from auditor.gate.policy import Policy
from auditor.gate.trust import doubts
from auditor.gate.waivers import Waiver
from auditor.results.encode import document
from auditor.results.judgement import AlertBlock
from auditor.results.scores import Grade
from auditor.results.severity import Rated

Block = Mapping[str, Any]
_DAY = datetime.timedelta(days=1)
# The place is where the repository lies, which results do not tell.
_NOT_COMPARED = ("place",)


def judgement_doubts(results: Block, baseline: Block | None = None) -> Iterator[str]:
    """Yield what a judgement says otherwise than a gate that is told the same."""
    held = results.get("judgement")
    if not held:
        return
    yield from doubts(results, held)
    policy = Policy(**{f.name: held["policy"][f.name] for f in fields(Policy)})
    if held["baseline"] is not None and baseline is None:
        yield from _decision(results, held, policy)
        return
    if held["baseline"] is not None and baseline is not None and not _same_audit(held["baseline"], baseline):
        yield "it was judged against another baseline than the one given"
        return
    waivers = tuple(_waiver(block) for block in held["waivers"])
    try:
        made = judge(results, policy, baseline if held["baseline"] else None, waivers, _day(held))
    except UsageError as error:
        yield error.cause
        return
    for name in held:
        if name not in _NOT_COMPARED and held[name] != made.get(name):
            yield f"judgement.{name} is not what the gate decides on these findings"


def _decision(results: Block, held: Block, policy: Policy) -> Iterator[str]:
    """What follows without the baseline: the decision from the states that alerts are told to have."""
    try:
        alerts = [_alert(block) for block in held["alerts"]]
    except KeyError:
        yield "an alert has no grade that there is"
        return
    code, reasons, decided = decision(results, policy, held["baseline"]["verdict"], alerts)
    if (held["exit_code"], tuple(held["reasons"])) != (int(code), tuple(reasons)):
        yield f"the gate's exit code is {held['exit_code']}, and its alerts and policy give {int(code)}"
    if [document(alert) for alert in decided] != list(held["alerts"]):
        yield "which alerts fail the gate is not what their states and the policy give"
    for n, block in enumerate(held["waivers"]):
        if block["alerts"] != sum(alert["waiver"] == n for alert in held["alerts"]):
            yield f"the waiver of {block['rule']} covers {block['alerts']} alerts, and others are told"


def _alert(block: Block) -> AlertBlock:
    plain = {f.name: block[f.name] for f in fields(AlertBlock)}
    grade = None if block["grade"] is None else Grade[block["grade"]]
    rated = Rated(score=block["severity"]["score"], vector=block["severity"]["vector"])
    return AlertBlock(**{**plain, "grade": grade, "severity": rated})


def _waiver(block: Block) -> Waiver:
    plain = {f.name: block[f.name] for f in fields(Waiver)}
    return Waiver(**{**plain, "expires": datetime.date.fromisoformat(block["expires"])})


def _day(held: Block) -> datetime.date:
    """Return a day on which every waiver was in the state that is told: results do not say when they were judged."""
    days = [(w["state"] == "expired", datetime.date.fromisoformat(w["expires"])) for w in held["waivers"]]
    over, open_ones = ([day for expired, day in days if expired is wanted] for wanted in (True, False))
    return max(over) + _DAY if over else min(open_ones, default=datetime.date.max)


def _same_audit(told: Block, baseline: Block) -> bool:
    return bool(told["audit_id"] == baseline["tool"]["audit_id"] and told["sha256"] == baseline["model"]["sha256"])
