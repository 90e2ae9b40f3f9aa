"""Whether a judgement that stands in results agrees with their findings: it may have been edited."""

from collections.abc import Iterator, Mapping
from typing import Any

from auditor.gate.standing import Standing, standings

Results = Mapping[str, Any]
# Scores have one decimal.
_ROUNDED = 0.051
_CODES = (0, 1, 4)


def doubts(results: Results, judgement: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a judgement hides or contradicts, each as a sentence."""
    code, alerts = judgement["exit_code"], judgement["alerts"]
    if code not in _CODES or judgement["passed"] != (code == 0):
        yield f"the gate's exit code is {code}, and passed is {judgement['passed']}"
    fails = [alert for alert in alerts if alert["fails"]]
    if (code == 1) != bool([a for a in fails if a["rule"] != "inconclusive"]):
        yield f"{len(fails)} alerts fail the gate, and its exit code is {code}"
    if any(a["waiver"] is not None and a["waiver"] >= len(judgement["waivers"]) for a in alerts):
        yield "an alert is waived by a waiver that is not there"
    told = {(a["rule"], a["subject"], a["threat_model"]): a for a in alerts if a["state"] != "fixed"}
    for standing in _shown(results, told):
        alert = told.get(standing.key)
        if alert is None:
            yield f"{standing.rule} ({standing.subject}) is shown, and no alert says so"
        elif abs((alert["severity"]["score"] or 0.0) - (standing.severity["score"] or 0.0)) > _ROUNDED:
            yield f"the severity of {standing.rule} ({standing.subject}) is not that of its findings"


def _shown(results: Results, told: Mapping[tuple[str, str, str], Any]) -> list[Standing]:
    """What has to be told: by families, or by attacks where the baseline knew none."""
    found = [
        [s for s in standings(results, by_family).values() if s.present and s.rule != "layer-exposure"]
        for by_family in (True, False)
    ]
    return min(found, key=lambda shown: sum(s.key not in told for s in shown))
