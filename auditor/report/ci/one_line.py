"""An audit in one line."""

from collections.abc import Mapping
from typing import Any

from auditor.report.ci.changes import counted
from auditor.report.figures import fixed, short_hash
from auditor.text import printable


def one_line(results: Mapping[str, Any], judgement: Mapping[str, Any]) -> str:
    """Return verdict, severity, model, alerts and the gate's decision."""
    severity, model = results["severity"], results["model"]
    gate = "satisfied" if judgement["passed"] else "failed"
    return (
        f"{results['verdict']['word']} {fixed(severity['score'], 1)} {severity['band']}: "
        f"{printable(model['name'], 60)} (sha256 {short_hash(model['sha256'])}), {counted(judgement)}; "
        f"gate {gate}: {printable(judgement['reasons'][0], 200)}"
    )
