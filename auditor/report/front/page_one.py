"""Page one as data: who, what, how sure, what to do, what was not tested, and who signs."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from auditor.report.front import sentences
from auditor.report.front.disclosures import Disclosure, Kind, Shown, disclosures
from auditor.report.front.plain_words import plainly
from auditor.report.headline import Best, best, canaries, scored, strength
from auditor.report.language import say, say_many

Results = Mapping[str, Any]

_ACTIONS = 3
# Items of what was not tested that page one lists, and characters that it holds beside large pictures and
# beside smaller ones: measured on A4, in English and German.
_LISTED = 8
_ROOMY, _TIGHT = 1800, 2400
_OUTSIDE = 4
# What makes an audit tell more has no effect on leakage that could be measured.
_TELLS_MORE = re.compile(r"Measure |Repeat |Export ")
# What was planned and had no room, against what does not fit the network at all.
_CUT_SHORT = ("out-of-budget", "out-of-memory", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedLine:
    """One thing that an update may tell: its name, the answer in words, how often, and what else the attacker held."""

    kind: Kind
    shown: Shown
    title: str
    answer: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOne:
    """What page one says, in the language that is spoken; every text follows from the results alone."""

    headline: str
    who: str
    recipient: str
    lines: tuple[LearnedLine, ...]
    sure: tuple[str, ...]
    conclusion: str
    actions: tuple[tuple[str, str], ...]
    not_tested: tuple[str, ...]
    residual_risk: str
    next_review: str
    fields: tuple[tuple[str, str], ...]


def page_one(results: Results) -> PageOne:
    """Return page one of an audit."""
    context, found = results.get("context") or {}, disclosures(results)
    return PageOne(
        headline=sentences.headline(results),
        who=sentences.who_in_full(results),
        recipient=context.get("recipient", ""),
        lines=tuple(_line(d, _copied(found)) for d in _told(found)),
        sure=sentences.sureness(results),
        conclusion=sentences.conclusion(results),
        actions=tuple(_action(a) for a in results["actions"][:_ACTIONS]),
        not_tested=tuple(_not_tested(results)),
        residual_risk=sentences.residual_risk(results),
        next_review=sentences.next_review(results),
        fields=(
            (say("Organisation"), context.get("organisation", "")),
            (say("System"), context.get("system", "")),
            (say("Purpose"), context.get("purpose", "")),
            (say("Owner of the risk"), context.get("owner", "")),
            (say("Reviewer"), context.get("reviewer", "")),
        ),
    )


def _told(found: Mapping[Kind, Disclosure]) -> Iterator[Disclosure]:
    """Hidden marks are for the engineer, where anything that people care about was shown."""
    others = any(d.shown == "shown" for kind, d in found.items() if kind != "bits")
    return (d for kind, d in found.items() if kind != "bits" or not others)


def density(page: PageOne) -> int:
    """Return how far pictures have to shrink to leave room for what page one has to say on one sheet: 0, 1 or 2."""
    texts = (page.headline, page.who, page.recipient, *page.sure, page.conclusion, *page.not_tested[:_LISTED])
    texts += tuple(text for action in page.actions for text in action)
    texts += tuple(f"{line.title}{line.answer}{line.detail}" for line in page.lines)
    texts += tuple(text for _, text in page.fields)
    said = sum(map(len, texts))
    return (said > _ROOMY) + (said > _TIGHT)


def cover_result(results: Results) -> Best | None:
    """Return the reconstruction on the cover: the strongest of the user's own clips, else the strongest of all."""
    own = own_clips(results)
    payloads = canaries(results)
    pictured = [b for b in scored(results) if b.result["probe"] in own and (b.result["pictures"] or {}).get("frames")]
    return max(pictured, key=lambda b: strength(b.result, payloads), default=best(results))


def own_clips(results: Results) -> frozenset[str]:
    """Return the names of the clips that the user gave."""
    return frozenset(probe["name"] for probe in results["probes"] if probe["kind"] == "user")


def _line(d: Disclosure, copied: bool) -> LearnedLine:
    if d.kind == "frame" and d.shown == "not-tested" and copied:
        follows = say("follows: the clip itself came back")
        return LearnedLine(kind=d.kind, shown="shown", title=_titles()[d.kind], answer=follows, detail="")
    return LearnedLine(kind=d.kind, shown=d.shown, title=_titles()[d.kind], answer=_answers(d), detail=_detail(d))


def _copied(found: Mapping[Kind, Disclosure]) -> bool:
    """Whether a clip came back as it is: then it is known whether a picture was part of it."""
    return found["copy"].shown == "shown" and found["copy"].needs != "reference"


def _titles() -> Mapping[str, str]:
    return {
        "copy": say("The clip itself"),
        "person": say("People, or whatever else moves"),
        "person-with-frames": say("A person, with a picture of the scene"),
        "face": say("Who the person is, by the face"),
        "scene": say("The scene"),
        "inner": say("Inner values of the network"),
        "bits": say("Hidden test marks"),
        "label": say("The label (what the clip is filed as)"),
        "frame": say("Whether a given picture was in the clip"),
    }


def _answers(d: Disclosure) -> str:
    if d.shown == "look":
        return say("hard to say: look at the picture")
    if d.shown == "not-tested":
        return say("not tested")
    if d.shown == "not-shown":
        return _absent()[d.kind]
    return {
        "copy": say("recovered"),
        "person": say("visible"),
        "person-with-frames": say("visible"),
        "face": say("matched"),
        "scene": say("recognisable"),
        "inner": say("recovered"),
        "bits": say("read"),
        "label": say("read"),
        "frame": say("can be told"),
    }[d.kind]


def _absent() -> Mapping[str, str]:
    """The answers where an attack did not succeed, which says nothing of other attacks."""
    unread, unfound = say("not read"), say("not recovered")
    return {
        "copy": unfound,
        "person": say("not visible"),
        "person-with-frames": say("not visible"),
        "face": say("not matched"),
        "scene": say("not recognised"),
        "inner": unfound,
        "bits": unread,
        "label": unread,
        "frame": say("could not be told"),
    }


def _detail(d: Disclosure) -> str:
    helped = {
        "none": "",
        "labels": say("with the label known"),
        "reference": say("with a picture of the scene"),
    }[d.needs]
    told = (sentences.counted(d), helped if d.shown in ("shown", "look") and d.kind != "person-with-frames" else "")
    return ", ".join(text for text in told if text)


def _action(action: Mapping[str, Any]) -> tuple[str, str]:
    """What to do, and whether it is known to help: the numbers stand in their section."""
    if _TELLS_MORE.match(action["text"]):
        return action_text(action), ""
    measured = (action["effect"] or "").endswith("(measured)")
    effect = say("measured: attacks find less") if measured else say("effect not measured")
    return action_text(action), effect


def action_text(action: Mapping[str, Any]) -> str:
    """Return an action in plain words where there are some, with its full stop."""
    plain = plainly(action["text"])
    return f"{plain[:1].upper()}{plain[1:]}."


def _not_tested(results: Results) -> Iterator[str]:
    found = disclosures(results)
    if not own_clips(results):
        yield say("Your own clips: the test clips came with the tool")
    if found["label"].shown == "not-tested":
        yield say("Whether the label can be read")
    if found["frame"].shown == "not-tested" and not _copied(found):
        yield say("Whether a given picture was part of the clip")
    if "face" not in found and found["person"].shown in ("shown", "look"):
        yield say("Who a person is: no faces were compared")
    cut = sum(skip["because"] in _CUT_SHORT for skip in results["skipped"])
    if cut:
        yield say_many(
            "%(n)s planned part, for lack of time or memory", "%(n)s planned parts, for lack of time or memory", cut
        )
    for text in results["protocol"]["threat_model"]["out_of_scope"][:_OUTSIDE]:
        plain = plainly(text)
        yield plain[:1].upper() + plain[1:]
