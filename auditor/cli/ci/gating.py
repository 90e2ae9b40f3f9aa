"""What scan, gate and diff share: the baseline is read before anything runs, and the decision is added to results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from auditor.errors import UsageError
from auditor.gate.judge import judge
from auditor.gate.place import place_of
from auditor.gate.policy import Policy
from auditor.gate.waivers import WAIVERS_FILE, Waiver, read_waivers
from auditor.gate_options import GateOptions
from auditor.results.reading import read_results
from auditor.terms import FailOn
from auditor.text import printable
from auditor.verification.verify_options import SigningOptions


def policy_of(fail_on: FailOn, gate: GateOptions) -> Policy:
    """Return the policy that the options tell."""
    return Policy(
        fail_on=fail_on,
        fail_on_regression=gate.fail_on_regression,
        inconclusive=gate.inconclusive,
        least_confidence=gate.least_confidence,
        levels=dict(gate.level),
    )


def baseline_of(gate: GateOptions, targets: Sequence[Path] = ()) -> dict[str, Any] | None:
    """Read the baseline, if there is one; `targets` are the files that will be written.

    Raises
    ------
    UsageError
        It is no results.json, would be overwritten, or is missing where regressions are to fail.
    """
    if gate.baseline is None:
        if gate.fail_on_regression:
            raise UsageError("--fail-on-regression has nothing to compare with", "add --baseline results.json")
        return None
    if any(target.resolve() == gate.baseline.resolve() for target in targets):
        raise UsageError(
            f"the baseline {printable(str(gate.baseline))} would be overwritten", "keep it elsewhere, or give --out"
        )
    return read_results(gate.baseline)


def waivers_of(gate: GateOptions) -> tuple[Waiver, ...]:
    """Read the waivers: of the file that is named, else of the one that is here, else none."""
    path = gate.waivers or WAIVERS_FILE
    return read_waivers(path) if gate.waivers or path.exists() else ()


def judged(
    results: Mapping[str, Any],
    fail_on: FailOn,
    gate: GateOptions,
    baseline: Mapping[str, Any] | None,
    waivers: Sequence[Waiver],
    configuration: Path | None = None,
) -> dict[str, Any]:
    """Return results with the gate's decision in them; alerts are shown in the configuration, or a factory."""
    place = place_of(results["model"], configuration)
    return {**results, "judgement": judge(results, policy_of(fail_on, gate), baseline, waivers, place=place)}


def check_key(signing: SigningOptions) -> None:
    """Read the key now, if there is one: a scan of hours is not to end in a key that is none."""
    if signing.sign_key is not None:
        from auditor.verification.signing import private_key

        private_key(signing.sign_key)


def signed_by(signing: SigningOptions, results: dict[str, Any]) -> dict[str, Any]:
    """Return results signed, where a key was given; else as they are."""
    if signing.sign_key is None:
        return results
    from auditor.report.plain import plain
    from auditor.verification.signing import signed

    return signed(plain(results), signing.sign_key)
