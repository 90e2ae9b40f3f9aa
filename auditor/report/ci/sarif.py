"""SARIF 2.1.0 in two forms: complete, and as GitHub code scanning reads it.

GitHub ignores `baselineState` and `suppressions`, and takes what is suppressed for open: its form leaves out what is
waived or fixed. It sorts by `security-severity` of the rule, and knows an alert again by `primaryLocationLineHash`.
"""

import datetime
import json
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from auditor.gate.judge import judgement_of
from auditor.gate.rules import RULES, Rule
from auditor.report.ci.plain_words import Alert, inert, level_of, message_of, waiver_of

Results = Mapping[str, Any]
SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_STATES = {"new": "new", "worse": "updated", "better": "updated", "same": "unchanged", "fixed": "absent"}
# GitHub takes no more than 1024 characters of a rule's description.
_LONGEST = 1024
_EXIT = {0: "gate satisfied", 1: "gate failed on findings", 4: "inconclusive"}


def to_sarif(results: Results) -> str:
    """Return every alert, with its state against the baseline and its waiver."""
    return _text(results, github=False)


def to_github_sarif(results: Results) -> str:
    """Return the alerts that are open, as GitHub code scanning wants them."""
    return _text(results, github=True)


def _text(results: Results, *, github: bool) -> str:
    judgement = judgement_of(results)
    shown = [a for a in judgement["alerts"] if not github or (a["waiver"] is None and a["state"] != "fixed")]
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [_run(results, judgement, shown, github)]}
    return json.dumps(log, indent=1, allow_nan=False) + "\n"


def _run(results: Results, judgement: Mapping[str, Any], shown: Sequence[Alert], github: bool) -> dict[str, Any]:
    tool, model = results["tool"], results["model"]
    audit = quote(inert(tool["audit_id"], 80), safe="")
    return {
        "tool": {
            "driver": {
                "name": "fl-audit",
                "semanticVersion": inert(tool["version"], 40),
                "rules": [_rule(rule, shown) for rule in RULES],
            }
        },
        # What stands before the last slash is the category: one a model, so that two models do not close each other's.
        "automationDetails": {"id": f"fl-audit/{_category(results, judgement)}/{audit}"},
        "invocations": [_invocation(results, judgement)],
        "artifacts": [
            {"location": {"uri": _uri(judgement)}},
            # The place may be another file than the model, so the digest stands by itself.
            {
                "description": {"text": f"model {inert(model['name'], 80)}"},
                "hashes": {"sha-256": inert(model["sha256"], 64)},
            },
        ],
        "columnKind": "utf16CodeUnits",
        "results": [_result(alert, judgement, github) for alert in shown],
    }


def _category(results: Results, judgement: Mapping[str, Any]) -> str:
    """The model's name and the folder that it stands in: two projects of a repository may both have a `model.onnx`."""
    folder = posixpath.dirname((judgement.get("place") or {"path": ""})["path"])
    name = inert(results["model"]["name"], 80)
    return quote((f"{inert(folder, 200)}/{name}" if folder else name).encode("utf-8", "replace"), safe="")


def _rule(rule: Rule, shown: Sequence[Alert]) -> dict[str, Any]:
    alerts = [a for a in shown if a["rule"] == rule.name]
    worst = max((a["severity"]["score"] for a in alerts), default=rule.security_severity)
    remedies = "\n".join(f"- {text}" for text in rule.remedies)
    properties: dict[str, Any] = {"tags": ["privacy", "security"], "precision": "high"}
    if worst:
        properties["security-severity"] = f"{worst:.1f}"
    return {
        "id": rule.name,
        "name": "".join(part.title() for part in rule.name.split("-")),
        "shortDescription": {"text": rule.short},
        "fullDescription": {"text": f"{rule.meaning} {rule.why}"[:_LONGEST]},
        "help": {
            "text": f"{rule.meaning}\n\n{rule.why}\n\nWhat to do:\n{remedies}\n\nEvidence: {rule.evidence}",
            "markdown": f"{rule.meaning}\n\n{rule.why}\n\n**What to do**\n\n{remedies}\n\n{rule.evidence}",
        },
        "defaultConfiguration": {"level": rule.level if not worst else "error" if worst >= 7.0 else "warning"},
        "properties": properties,
    }


def _invocation(results: Results, judgement: Mapping[str, Any]) -> dict[str, Any]:
    code = judgement["exit_code"]
    told = [*judgement["warnings"], *results["verdict"]["reasons"]]
    return {
        # False for a run of which nothing follows; GitHub does not look at it: the exit code is the gate.
        "executionSuccessful": results["verdict"]["word"] != "INCONCLUSIVE" and not results.get("machine_cuts"),
        "exitCode": code,
        "exitCodeDescription": _EXIT[code],
        **_times(results["tool"]),
        "toolExecutionNotifications": [{"level": "note", "message": {"text": inert(text, 600)}} for text in told],
    }


def _times(tool: Mapping[str, Any]) -> dict[str, str]:
    """Begin and end; nothing where a file from outside tells no times that there are."""
    try:
        started = datetime.datetime.fromisoformat(tool["started"]).astimezone(datetime.UTC)
        ended = started + datetime.timedelta(seconds=tool["seconds"] or 0.0)
    except (ValueError, OverflowError):
        return {}
    names = ("startTimeUtc", "endTimeUtc")
    return {name: when.strftime("%Y-%m-%dT%H:%M:%SZ") for name, when in zip(names, (started, ended), strict=True)}


def _result(alert: Alert, judgement: Mapping[str, Any], github: bool) -> dict[str, Any]:
    made: dict[str, Any] = {
        "ruleId": alert["rule"],
        "ruleIndex": [rule.name for rule in RULES].index(alert["rule"]),
        "level": level_of(alert),
        "message": {"text": message_of(alert, judgement)},
        "locations": [_location(alert, judgement)],
        "partialFingerprints": {
            "primaryLocationLineHash": f"{alert['fingerprint']}:1",
            "flAuditAlert/v1": alert["fingerprint"],
        },
        "rank": round(10.0 * alert["severity"]["score"], 1),
        "properties": {
            "severity": alert["severity"]["score"],
            "vector": inert(alert["severity"]["vector"], 120),
            "grade": alert["grade"],
            "threatModel": inert(alert["threat_model"], 40),
            "failsGate": alert["fails"],
        },
    }
    if github:
        return made
    if alert["state"] is not None:
        made["baselineState"] = _STATES[alert["state"]]
        made["properties"]["state"] = alert["state"]
        made["properties"]["beyondSpread"] = alert["clear"]
    waiver = waiver_of(alert, judgement)
    # Present on all results or on none (section 3.27.23): an empty list says that nothing suppresses it.
    made["suppressions"] = [] if waiver is None else [_suppression(waiver)]
    return made


def _suppression(waiver: Mapping[str, Any]) -> dict[str, Any]:
    owner, until = inert(waiver["owner"], 120), waiver["expires"]
    told = f"{inert(waiver['reason'], 400)} ({owner}, until {until})"
    # No status is an accepted one; revisions of the schema disagree on its name.
    return {"kind": "external", "justification": told}


def _location(alert: Alert, judgement: Mapping[str, Any]) -> dict[str, Any]:
    place = judgement.get("place") or {"line": 1, "end_column": 1}
    region = {
        "startLine": place["line"],
        "startColumn": 1,
        "endLine": place["line"],
        "endColumn": max(2, place["end_column"]),
    }
    made: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": _uri(judgement)}, "region": region}}
    if alert["layer"]:
        made["logicalLocations"] = [{"fullyQualifiedName": inert(alert["layer"], 120), "kind": "layer"}]
    return made


def _uri(judgement: Mapping[str, Any]) -> str:
    """The path within the repository; the default configuration's name where nothing of the model lies there."""
    place = judgement.get("place")
    return quote(place["path"].encode("utf-8", "replace"), safe="/") if place else "fl-audit.toml"
