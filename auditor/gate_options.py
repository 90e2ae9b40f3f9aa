"""What the commands around the gate take: declared as `options.py` declares the rest."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from auditor import terms
from auditor.configuration.files import OWN_FILE
from auditor.declaring import REQUIRED, declaration, option
from auditor.errors import UsageError
from auditor.gate.policy import LEVELS
from auditor.gate.rules import rule_named
from auditor.gate.waivers import WAIVERS_FILE
from auditor.output_formats import STDOUT, SUFFIXES
from auditor.terms import GATE, OUTPUT
from auditor.values import FilePath, Listed, Pairs, Switch, Text, one_of, shown
from auditor.verification.verify_options import SigningOptions

_gate = partial(option, panel=GATE)
_output = partial(option, panel=OUTPUT)
_RESULTS = FilePath(remedy="the results.json of a scan")


@dataclass(frozen=True, slots=True)
class RuleLevels(Pairs):
    """Severities by rule: `rule=level` as text, a table elsewhere."""

    metavar: str = "RULE=LEVEL"
    told: str = f"{', '.join(LEVELS[:-1])} or {LEVELS[-1]}"
    python: str = "Mapping[str, str]"

    def read(self, flag: str, value: Any) -> tuple[tuple[str, str], ...]:
        """Return (rule, level) pairs.

        >>> RuleLevels().read("--level", ["label-inference=off"])
        (('label-inference', 'off'),)
        """
        items = value.items() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else [value]
        found: dict[str, str] = {}
        for item in items:
            rule, _, level = item.partition("=") if isinstance(item, str) else (item[0], "", item[1])
            if level not in LEVELS:
                raise UsageError(
                    f"{flag} {shown(item)} names no level", f"write e.g. {flag} label-inference=off, or {self.told}"
                )
            found[rule_named(str(rule), flag).name] = level
        return tuple(found.items())


@declaration
class GateOptions:
    """When a pipeline stops, beside `fail_on`."""

    baseline: Path | None = _gate(
        None, _RESULTS, "results.json of an earlier audit: says what is new, worse, same, better or fixed."
    )
    fail_on_regression: bool = _gate(
        False, Switch(), "Fail where something is new or worse than in --baseline, whatever its severity."
    )
    inconclusive: terms.OnInconclusive = _gate(
        "fail",
        one_of(terms.OnInconclusive),
        "What an audit that cannot tell does; new: it fails where the baseline was PASS or WARN.",
    )
    least_confidence: terms.ConfidenceLevel = _gate(
        "low", one_of(terms.ConfidenceLevel), "An audit of less confidence that does not FAIL is one that cannot tell."
    )
    waivers: Path | None = _gate(
        None,
        FilePath(remedy="a file of waivers, see docs/gate.md"),
        "Exceptions: rule, model, layer, reason, owner and last day of each.",
        default_words=f"{WAIVERS_FILE}, where it is",
    )
    level: tuple[tuple[str, str], ...] = _gate(
        (), RuleLevels(), "Severity that counts for a rule's alerts, or off; repeatable. See `fl-audit explain`."
    )


@declaration
class GateFile:
    """Saved results that a policy is applied to."""

    results: Path = _output(REQUIRED, _RESULTS, "results.json of a scan", argument=True)
    fail_on: terms.FailOn = _gate("high", one_of(terms.FailOn), "Lowest severity that fails the gate.")
    output: tuple[Path, ...] = _output(
        (),
        Listed(FilePath()),
        f"File to write with the decision in it ({' '.join(SUFFIXES)}); repeatable. {STDOUT}",
        flags=("-o",),
    )


@declaration
class DiffOptions:
    """Two audits that are compared."""

    old: Path = _output(REQUIRED, _RESULTS, "results.json of the earlier audit", argument=True)
    new: Path = _output(REQUIRED, _RESULTS, "results.json of the later one", argument=True)
    fail_on_regression: bool = _gate(False, Switch(), "Exit 1 where something is new or worse.")
    json: bool = _output(False, Switch(), "Print JSON and nothing else.")


@declaration
class ConfigurationOptions:
    """Where options are read from that the command line does not give."""

    config: Path | None = _output(
        None,
        FilePath(remedy="a TOML file"),
        "Configuration file, see docs/configuration.md.",
        default_words="the nearest fl-audit.toml or [tool.fl-audit], up to the repository's root",
    )


@declaration
class ShownConfiguration:
    """How the configuration is printed."""

    json: bool = _output(False, Switch(), "Print JSON and nothing else.")


@declaration
class ExplainOptions:
    """Which rule is explained."""

    rule: str = _output("", Text(), "Rule that an alert names; all are listed without it", argument=True)


@declaration
class InitOptions:
    """A configuration file to begin with."""

    model: str = _output("", Text(), "Model that it is for, as a scan takes it", argument=True)
    out: Path = _output(Path(OWN_FILE), FilePath(), "File to write.", flags=("-o", "--out"))
    force: bool = _output(False, Switch(), "Replace the file if it exists.")


# What each of these commands takes, in the order of its help.
GATE_COMMANDS: Mapping[str, tuple[type, ...]] = {
    "gate": (GateFile, GateOptions, SigningOptions, ConfigurationOptions),
    "diff": (DiffOptions,),
    "config": (ShownConfiguration, ConfigurationOptions),
    "init": (InitOptions,),
    "explain": (ExplainOptions,),
}
