"""When a pipeline stops: what severity, what change, how sure, and what an audit that cannot tell means."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from auditor.gate.rules import rule_named
from auditor.results.severity import BANDS
from auditor.terms import ConfidenceLevel, FailOn, OnInconclusive

# "off" takes a rule out of the gate; the bands replace the severity of its alerts.
LEVELS = ("off", *BANDS[1:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the gate stops at.

    Attributes
    ----------
    fail_on
        Lowest severity that fails.
    fail_on_regression
        Whether an alert that is new or worse than in the baseline fails, whatever its severity.
    inconclusive
        Whether an audit that cannot tell fails: `fail`, `new` (where the baseline was PASS or WARN) or `pass`.
    least_confidence
        An audit of less confidence that does not FAIL counts as one that cannot tell.
    levels
        By rule: a severity that replaces that of its alerts, or `off`.
    """

    fail_on: FailOn = "high"
    fail_on_regression: bool = False
    inconclusive: OnInconclusive = "fail"
    least_confidence: ConfidenceLevel = "low"
    levels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.levels:
            rule_named(name, "the policy")

    def band(self, rule: str, band: str) -> str:
        """Return the severity that counts for an alert; none for a rule that is off."""
        level = self.levels.get(rule, band)
        return "none" if level == "off" else level

    def off(self, rule: str) -> bool:
        """Tell whether a rule never fails the gate."""
        return self.levels.get(rule) == "off"

    def stops_at(self, rule: str, band: str) -> bool:
        """Tell whether an alert of this severity fails the gate."""
        if self.fail_on == "never":
            return False
        return BANDS.index(self.band(rule, band)) >= BANDS.index(self.fail_on)
