"""JUnit XML: an alert is a test case; what fails the gate is a failure, what is waived skipped, no verdict an error."""

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from auditor.gate.judge import judgement_of
from auditor.gate.rules import RULES
from auditor.gate.standing import standings
from auditor.report.ci.plain_words import Alert, inert, message_of, waiver_of

Results = Mapping[str, Any]


def to_junit(results: Results) -> str:
    """Return one suite: a case for every alert, and one for every rule that raised none."""
    judgement = judgement_of(results)
    tool, model = results["tool"], results["model"]
    suite = ElementTree.Element("testsuite", name=f"fl-audit {inert(model['name'], 80)}")
    _properties(suite, results, judgement)
    _silent(suite, results, judgement)
    for alert in judgement["alerts"]:
        _of_alert(suite, alert, judgement)
    if judgement["exit_code"] == 4 and not any(a["fails"] for a in judgement["alerts"]):
        case = _case(suite, "inconclusive", "audit")
        _child(case, "error", "; ".join(judgement["reasons"]), "inconclusive")
    counts = {tag: str(len(suite.findall(f"testcase/{tag}"))) for tag in ("failure", "error", "skipped")}
    seconds = f"{tool['seconds'] or 0.0:.1f}"
    suite.attrib.update(
        tests=str(len(suite.findall("testcase"))),
        failures=counts["failure"],
        errors=counts["error"],
        skipped=counts["skipped"],
        time=seconds,
        timestamp=inert(tool["started"][:19], 19),
    )
    root = ElementTree.Element("testsuites", name="fl-audit", time=seconds)
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _silent(suite: ElementTree.Element, results: Results, judgement: Mapping[str, Any]) -> None:
    """A case for every rule without an alert: what was not tested, or not to the end, has not passed."""
    tested = {standing.rule for standing in standings(results).values()}
    raised = {alert["rule"] for alert in judgement["alerts"]}
    for rule in RULES:
        if rule.name in raised or rule.name in ("inconclusive", "layer-exposure"):
            continue
        case = _case(suite, rule.name, "nothing demonstrated under the tested conditions")
        if rule.name not in tested:
            ElementTree.SubElement(case, "skipped", message="not tested on this model, or not measured")
        elif results["verdict"]["word"] == "INCONCLUSIVE":
            ElementTree.SubElement(case, "skipped", message="the audit cannot tell")


def _properties(suite: ElementTree.Element, results: Results, judgement: Mapping[str, Any]) -> None:
    held = ElementTree.SubElement(suite, "properties")
    told = {
        "version": results["tool"]["version"],
        "audit": results["tool"]["audit_id"],
        "model.sha256": results["model"]["sha256"],
        "verdict": results["verdict"]["word"],
        "confidence": results["confidence"]["level"],
        "gate": "; ".join(judgement["reasons"]),
    }
    for name, value in told.items():
        ElementTree.SubElement(held, "property", name=name, value=inert(value, 600))


def _of_alert(suite: ElementTree.Element, alert: Alert, judgement: Mapping[str, Any]) -> None:
    case = _case(suite, alert["rule"], inert(alert["subject"], 120))
    told, waiver = message_of(alert, judgement), waiver_of(alert, judgement)
    if alert["fails"]:
        _child(case, "error" if alert["rule"] == "inconclusive" else "failure", told, alert["rule"])
    elif waiver is not None:
        told_of = f"waived by {inert(waiver['owner'], 120)} until {waiver['expires']}"
        ElementTree.SubElement(case, "skipped", message=told_of)
    if not alert["fails"]:
        ElementTree.SubElement(case, "system-out").text = told


def _case(suite: ElementTree.Element, rule: str, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=f"fl-audit.{rule}", name=name)


def _child(case: ElementTree.Element, tag: str, message: str, kind: str) -> None:
    ElementTree.SubElement(case, tag, message=inert(message, 300), type=kind).text = inert(message, 2000)
