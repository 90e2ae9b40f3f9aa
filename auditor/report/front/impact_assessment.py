"""The annex for a data protection impact assessment: what leaves, to whom, how protected, and what that is worth."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from auditor.report import figures
from auditor.report.front.disclosures import Disclosure, Kind, disclosures
from auditor.report.front.page_one import PageOne
from auditor.report.headline import counts
from auditor.report.language import recorded, say, say_many
from auditor.report.wording import GRADES

Met = Literal["met", "not met", "open"]
Results = Mapping[str, Any]
Row = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimMeasured:
    """What one would like to state of an update, what was measured, and whether the measurement bears it out."""

    claim: str
    measured: str
    met: Met
    word: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImpactAssessment:
    """The parts of the annex, in its order."""

    artefact: tuple[Row, ...]
    controls: tuple[Row, ...]
    claims: tuple[ClaimMeasured, ...]
    tests: tuple[tuple[str, str, str, str], ...]
    failures: tuple[str, ...]
    accountability: tuple[Row, ...]


def impact_assessment(results: Results, one: PageOne) -> ImpactAssessment:
    """Return the annex of an audit; `one` is its page one."""
    return ImpactAssessment(
        artefact=tuple(_artefact(results, one)),
        controls=tuple(_controls(results)),
        claims=tuple(_claims(results, one)),
        tests=tuple(_tests(results)),
        failures=tuple(_failures(results)),
        accountability=tuple(_accountability(results, one)),
    )


def _artefact(results: Results, one: PageOne) -> Iterator[Row]:
    protocol, parameters = results["protocol"], results["model"]["parameters"]
    kind = (
        say("the gradient of one training step")
        if protocol["algorithm"] == "FedSGD"
        else say("the change of the weights after local training")
    )
    yield say("What leaves the client"), kind
    yield (
        say("Size"),
        say(
            "%(elements)s in %(tensors)s tensors",
            elements=figures.whole(parameters["sent_elements"]),
            tensors=figures.whole(parameters["sent_tensors"]),
        ),
    )
    yield (
        say("Made from"),
        say_many("%(n)s clip an update", "%(n)s clips an update", protocol["batch"]),
    )
    yield say("Recipient"), one.recipient or say("not stated")
    yield say("Who else may see it"), one.who


def _controls(results: Results) -> Iterator[Row]:
    """Protection as it is configured, client or server; and what a privacy claim comes to."""
    defences = results["protocol"].get("defences", ())
    for defence in defences:
        where = say("at the client") if defence["acts"] == "client" else say("at the server, after averaging")
        yield f"{defence['name']}, {where}", recorded(defence["told"])
    if not defences:
        yield say("Protection of updates"), say("none was configured")
    claim = results.get("privacy")
    if not claim:
        yield say("Differential privacy"), say("not claimed")
        return
    yield (
        say("Differential privacy, claimed"),
        say_many(
            "epsilon %(epsilon)s at delta %(delta)s, %(n)s round",
            "epsilon %(epsilon)s at delta %(delta)s, %(n)s rounds",
            claim["rounds"],
            epsilon=figures.tiny(claim["epsilon"]),
            delta=figures.tiny(claim["delta"]),
        ),
    )
    exact = claim["exact_epsilon"]
    yield (
        say("Differential privacy, recomputed"),
        say("no bound") if exact is None else say("epsilon %(epsilon)s", epsilon=figures.tiny(exact)),
    )


def _claims(results: Results, one: PageOne) -> Iterator[ClaimMeasured]:
    found = disclosures(results)
    lines = {line.kind: line for line in one.lines}
    wanted: tuple[tuple[Kind, str], ...] = (
        ("copy", say("The clip cannot be rebuilt from an update.")),
        ("person", say("No person is recognisable in what an update gives away.")),
        ("scene", say("The scene cannot be recognised from an update.")),
        ("label", say("The label cannot be read from an update.")),
        ("frame", say("Nobody can tell whether a given picture was part of the clip.")),
    )
    for kind, claim in wanted:
        line = lines[kind]
        measured = f"{line.answer} ({line.detail})" if line.detail else line.answer
        met = _met(results, found[kind])
        yield ClaimMeasured(claim=claim, measured=measured, met=met, word=_word(met))
    claim_of_privacy = results.get("privacy")
    if claim_of_privacy:
        held: Met = "met" if claim_of_privacy["holds"] else "not met"
        yield ClaimMeasured(
            claim=say("The privacy that is claimed holds."),
            measured=recorded(claim_of_privacy["sentence"]),
            met=held,
            word=_word(held),
        )


def _met(results: Results, found: Disclosure) -> Met:
    """Not shown is met only where the audit as a whole could tell."""
    if found.shown == "shown":
        return "not met"
    told = results["verdict"]["word"] != "INCONCLUSIVE"
    return "met" if found.shown == "not-shown" and told else "open"


def _word(met: Met) -> str:
    return {"met": say("not contradicted"), "not met": say("contradicted"), "open": say("open")}[met]


def _tests(results: Results) -> Iterator[tuple[str, str, str, str]]:
    """Every attack with its grade, runs and null control: also those that found nothing."""
    for finding in results["findings"]:
        null = finding["null_at_chance"]
        control = say("not run") if null is None else say("passed") if null else say("failed")
        grade = say(GRADES[finding["grade"]])
        told = grade if counts(finding) else say("%(grade)s, does not count", grade=grade)
        runs = say("%(n)s runs", n=len(finding["results"]))
        yield recorded(finding["title"]), told, runs, control


def _failures(results: Results) -> Iterator[str]:
    for control in results["controls"]:
        if control["passed"] is False:
            yield say("Control failed: %(name)s", name=recorded(control["name"]))
    for skip in results["skipped"]:
        if skip["because"] in ("out-of-budget", "out-of-memory", "failed", "unsupported"):
            yield f"{recorded(skip['what'])}: {recorded(skip['reason'])}"


def _accountability(results: Results, one: PageOne) -> Iterator[Row]:
    yield say("Residual risk"), one.residual_risk
    yield say("Conclusion"), one.conclusion
    yield from ((title, held or say("not stated")) for title, held in one.fields)
    event = say("When the model or its training changes, or how updates are protected, or who receives them.")
    yield say("Trigger of the next test"), event
    held = (results.get("context") or {}).get("next_review")
    yield say("Date of the next test"), held or say("not stated")
