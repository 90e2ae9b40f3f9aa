"""The sentences of page one: what somebody who sees an update can learn, and what follows from it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from auditor.report.front.disclosures import Disclosure, Kind, Needs, disclosures
from auditor.report.front.plain_words import plainly
from auditor.report.headline import counts, inverted
from auditor.report.language import recorded, say, say_many

Results = Mapping[str, Any]
Found = Mapping[Kind, Disclosure]

# The strongest first: it makes the first sentence.
_LEADING: tuple[Kind, ...] = ("copy", "person", "scene", "person-with-frames", "inner", "frame", "label", "bits")


def headline(results: Results) -> str:
    """Return the finding of an audit in two or three plain sentences: what was shown, and what was not.

    It follows from the verdict's word and the typed findings alone.
    """
    found, word = disclosures(results), results["verdict"]["word"]
    shown = [kind for kind in _LEADING if kind in found and found[kind].shown == "shown"]
    if word == "INCONCLUSIVE":
        return " ".join(
            (say("This audit cannot tell how much an update gives away."), *_all_the_same(results, found, shown))
        )
    if not shown:
        return " ".join(_nothing(results, found))
    first = _first(found, shown)
    return " ".join((_can(results, found[first]), *_beside(found, first)))


def who(results: Results, needs: Needs) -> str:
    """Return who sees an update, and what else they hold, as the beginning of a sentence."""
    clients = results["protocol"].get("clients", 1)
    if clients > 1:
        seen = say("Someone who sees the average of %(n)s clients", n=clients)
        with_label = say("Someone who sees the average of %(n)s clients and knows the labels", n=clients)
        with_frame = say("Someone who sees the average of %(n)s clients and has a picture of the scene", n=clients)
    else:
        seen = say("Someone who sees one update")
        with_label = say("Someone who sees one update and knows its label")
        with_frame = say("Someone who sees one update and has a picture of the scene")
    return {"none": seen, "labels": with_label, "reference": with_frame}[needs]


def who_in_full(results: Results) -> str:
    """Return who the attacker is, and what it was given in this audit."""
    threat = results["protocol"]["threat_model"]
    anyone = say(
        "Whoever sees it can learn from it: the operator of the server, or someone who listens in on the connection."
    )
    told = anyone if threat["id"] == "C" else f"{recorded(threat['title'])}."
    used = {d.needs for d in disclosures(results).values() if d.shown in ("shown", "look")}
    extra = {
        "labels": say("One of the attacks below also had to know the label of the clip."),
        "reference": say("One of the attacks below also had a picture of the scene."),
    }
    update = say(
        "An update is what a participant (a client) sends to the server after training on its own clips; the clips "
        "themselves are not sent."
    )
    known = say("All they need besides is the model, which every participant has.")
    return " ".join((update, told, known, *(text for needs, text in extra.items() if needs in used)))


def sureness(results: Results) -> tuple[str, ...]:
    """Return how sure the audit is: of what it showed, and of what it did not."""
    level = _levels()[results["confidence"]["level"]]
    reasons = "; ".join(dict.fromkeys(plainly(reason) for reason in results["confidence"]["reasons"]))
    word = results["verdict"]["word"]
    if word == "INCONCLUSIVE":
        return (say("The audit itself says that it is not sure enough for a conclusion (confidence %(level)s: "
                    "%(reasons)s).", level=level, reasons=reasons),)  # fmt: skip
    if word == "PASS":
        return (say("The confidence that there is nothing to find is %(level)s: %(reasons)s. Another attack may find "
                    "more.", level=level, reasons=reasons),)  # fmt: skip
    return (
        say("What is shown is certain for these clips: it was compared with the original, and with what the update of "
            "another clip gives."),
        say("For other clips and for stronger attacks, the audit's confidence is %(level)s: %(reasons)s.",
            level=level, reasons=reasons),
    )  # fmt: skip


def residual_risk(results: Results) -> str:
    """Return the risk that remains as things are: before any of the actions is taken."""
    word, severity = results["verdict"]["word"], results["severity"]
    if word == "INCONCLUSIVE":
        return say("Unknown. Treat it as high until an audit can tell.")
    if word == "PASS":
        return say("Low as far as was tested. What was not tested remains.")
    pictured = any(counts(f) and f["grade"] in ("RECOGNISABLE", "EXACT") for f in results["findings"])
    if severity["band"] in ("high", "critical") and not pictured and inverted(results) is not None:
        return say("High: inner values of the network that hold as much as the clip can be computed from updates.")
    return {
        "low": say("Low: single facts about a clip can be read, not its picture."),
        "medium": say("Medium: a clip can be told from others; no clear picture of it was recovered."),
        "high": say("High: pictures of private clips can be recovered from updates."),
        "critical": say("Critical: private clips can be recovered as they are."),
    }.get(severity["band"], say("Not rated."))


def conclusion(results: Results) -> str:
    """Return what follows for the organisation; no legal assessment."""
    return {
        "FAIL": say("Treat updates of this model as you treat the clips themselves, until a measure is in place and "
                    "an audit with it shows less."),
        "WARN": say("Updates of this model tell something about the clips. Decide whether that is acceptable, or take "
                    "a measure below and audit again."),
        "PASS": say("Nothing in this audit speaks against the model as it was tested. The conclusion ends where the "
                    "test ends."),
        "INCONCLUSIVE": say("Draw no conclusion from this audit. Remove the cause that is named here, and audit "
                            "again."),
    }[results["verdict"]["word"]]  # fmt: skip


def next_review(results: Results) -> str:
    """Return the day or event of the next audit."""
    held = (results.get("context") or {}).get("next_review")
    event = say("When the model or its training changes, or how updates are protected, or who receives them.")
    return held or say("%(event)s No date was set.", event=event)


def _can(results: Results, d: Disclosure) -> str:
    """The first sentence: who can do what."""
    subject = who(results, d.needs)
    person = say("%(who)s can make out the person in the training clip, or whatever else moves in it.", who=subject)
    return {
        "copy": say("%(who)s can rebuild the training clip itself, picture by picture.", who=subject),
        "person": person,
        "person-with-frames": person,
        "scene": say("%(who)s can recognise the scene of the training clip.", who=subject),
        "inner": say("%(who)s can compute exact inner values of the network for the training clip.", who=subject),
        "frame": say("%(who)s can tell whether a given picture was part of the training clip.", who=subject),
        "label": say("%(who)s can read the label of the training clip.", who=subject),
        "bits": say("%(who)s can read test marks that were hidden in a clip.", who=subject),
    }[d.kind]  # fmt: skip


def _first(found: Found, shown: Sequence[Kind]) -> Kind:
    """What leads: the strongest, but inner values that hold the whole clip before a scene that was only recognised."""
    pictured = {"copy", "person", "person-with-frames"} & set(shown) or _of(found, "person") == "look"
    inner = found.get("inner")
    return "inner" if inner is not None and inner.whole and not pictured else shown[0]


def _beside(found: Found, first: Kind) -> Iterator[str]:
    """What else was shown, and what was not: for each thing that the first sentence leaves open."""
    if first == "inner" and found["inner"].whole:
        yield say("These values hold as much as the clip; this audit made no picture from them.")
    if first == "person-with-frames":
        yield say("With the update alone the person was not clearly recognised.")
    elif first not in ("copy", "person"):
        yield from _of_person(found)
        if "person-with-frames" in found:
            yield say("Who also has a picture of the scene can make out the person, or whatever else moves.")
    if first in ("label", "bits", "frame", "inner") and _of(found, "scene") == "not-shown":
        yield say("The scene cannot be recognised.")
    if first == "inner" and _of(found, "scene") == "shown":
        yield say("The scene can be recognised.")
    if first not in ("copy", "frame") and _of(found, "frame") == "shown":
        yield say("It can be told whether a given picture was part of it.")
    if first != "label" and _of(found, "label") == "shown":
        yield say("The label can be read too.")


def _of_person(found: Found) -> Iterator[str]:
    shown = _of(found, "person")
    if shown == "look":
        yield say("Whether a person is recognisable is hard to say: look at the picture.")
    elif shown == "not-shown":
        yield say("No person is recognisable.")


def _of(found: Found, kind: Kind) -> str:
    return found[kind].shown if kind in found else "not-tested"


def _all_the_same(results: Results, found: Found, shown: Sequence[Kind]) -> Iterator[str]:
    if shown:
        yield say("What it did show: %(can)s", can=_can(results, found[_first(found, shown)]))
    if _of(found, "person") == "not-shown":
        yield say("No person was recognisable in what was recovered.")
    if results["verdict"]["reasons"]:
        yield say("Why it cannot tell: %(reason)s.", reason=plainly(results["verdict"]["reasons"][0]))


def _nothing(results: Results, found: Found) -> Iterator[str]:
    """PASS, or a finding that no sentence here is about."""
    nouns = {
        "person": say("no person"),
        "scene": say("no scene"),
        "label": say("no label"),
        "frame": say("no single picture"),
    }
    absent = [noun for kind, noun in nouns.items() if _of(found, kind) == "not-shown"]  # type: ignore[arg-type]
    subject = who(results, "none")
    if results["verdict"]["word"] != "PASS" or not absent:
        yield say("%(who)s may learn something of the training clip: see the findings.", who=subject)
        return
    yield say("%(who)s could recognise nothing of the training clip in this audit: %(nothing)s.", who=subject,
              nothing=", ".join(absent))  # fmt: skip
    yield say("This holds for what was tested, and for nothing else.")


def _levels() -> Mapping[str, str]:
    return {"high": say("high"), "medium": say("medium"), "low": say("low")}


def counted(d: Disclosure) -> str:
    """Return in how many clips, updates or frames something was shown; empty where that was not counted."""
    if d.hits is None or d.trials is None or d.shown == "not-tested":
        return ""
    if d.kind == "label":
        return say_many("%(hits)s of %(n)s label", "%(hits)s of %(n)s labels", d.trials, hits=d.hits)
    if d.kind == "frame":
        return say_many("%(hits)s of %(n)s picture", "%(hits)s of %(n)s pictures", d.trials, hits=d.hits)
    if d.kind == "bits":
        return say_many("%(hits)s of %(n)s mark", "%(hits)s of %(n)s marks", d.trials, hits=d.hits)
    if d.kind == "scene":
        return say_many("in %(hits)s of %(n)s attempt", "in %(hits)s of %(n)s attempts", d.trials, hits=d.hits)
    return say_many("in %(hits)s of %(n)s test clip", "in %(hits)s of %(n)s test clips", d.trials, hits=d.hits)
