"""The three numbers of page 1, and the reconstruction that stands for the audit."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from auditor.report.charts import blind
from auditor.report.figures import decibels, of, percent, real, span
from auditor.report.language import recorded, say, say_many
from auditor.report.wording import READINGS

GRADE_ORDER = ("NOT_SHOWN", "GIST", "RECOGNISABLE", "EXACT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """One of the three numbers, with its interval beside the level of chance.

    `low`, `high`, `point` and `chance` lie on an axis from `floor` to `top`; they are None where nothing was measured.
    """

    title: str
    value: str
    interval: str
    detail: str
    low: float | None = None
    high: float | None = None
    point: float | None = None
    chance: float | None = None
    floor: float = 0.0
    top: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The strongest single reconstruction and the finding that it belongs to."""

    finding: Mapping[str, Any]
    result: Mapping[str, Any]

    @property
    def grade(self) -> str:
        """The run's grade; its finding's, where only all runs together tell which clip it was."""
        alone, together = str(self.result["grade"]), str(self.finding["grade"])
        return together if (alone, together) == ("NOT_SHOWN", "GIST") else alone


def scored(results: Mapping[str, Any]) -> Iterator[Best]:
    """Yield every single result that has a score, with its finding, where the finding counts as evidence."""
    for finding in filter(counts, results["findings"]):
        for result in finding["results"]:
            if result["score"] is not None:
                yield Best(finding=finding, result=result)


def counts(finding: Mapping[str, Any]) -> bool:
    """Return False for a finding whose null control did not hold: the attack may have invented what it shows."""
    return bool(finding.get("counts", True))


def canaries(results: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the probes that carry a payload instead of a scene."""
    return frozenset(probe["name"] for probe in results["probes"] if probe["kind"] == "canary")


def best(results: Mapping[str, Any]) -> Best | None:
    """Return the strongest result: a scene that was recovered before a canary's noise, then by grade and gain."""
    payloads = canaries(results)
    return max(scored(results), key=lambda candidate: strength(candidate.result, payloads), default=None)


def demonstrated(results: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the worst finding whose grade is not `NOT_SHOWN` and that counts as evidence."""
    return next((f for f in results["findings"] if f["grade"] != "NOT_SHOWN" and counts(f)), None)


def inverted(results: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the largest inner value of the net that was recovered exactly, where one counts as evidence."""
    return next((m for m in results.get("feature_maps", ()) if m["counts"]), None)


def statement(results: Mapping[str, Any]) -> str:
    """Return what the verdict means for this model, where the verdict's own sentence only repeats its word."""
    verdict = results["verdict"]
    if not verdict["sentence"].startswith(verdict["word"]):
        return str(verdict["sentence"])
    worst = demonstrated(results)
    inner = inverted(results)
    if verdict["word"] in ("FAIL", "WARN") and inner is not None and (worst is None or worst["grade"] == "GIST"):
        return str(inner["summary"])
    if verdict["word"] in ("FAIL", "WARN") and worst is not None:
        return str(worst["summary"])
    if verdict["word"] == "INCONCLUSIVE" and verdict["reasons"]:
        said = "; ".join(verdict["reasons"])
        return f"{said[:1].upper()}{said[1:]}."
    return READINGS[verdict["word"]]


def headlines(results: Mapping[str, Any]) -> tuple[Headline, Headline, Headline]:
    """Return the three numbers: picture, identity, and label (or payload bits where there are no labels)."""
    findings = [f for f in results["findings"] if counts(f)]
    recall = next((f["recall"] for f in findings if f["recall"] is not None), None)
    bits = next((f["bits"] for f in findings if f["bits"] is not None), None)
    labels = results["labels"]["interval"]
    if labels is None and bits is not None:
        third = _share(say("Payload bits read"), bits, say("bits hidden in a canary clip, read back from the update"))
    else:
        third = _share(
            say("Labels read"), labels, say("training labels read off the update"), results["labels"]["reason"]
        )
    return (
        _picture(results),
        _share(say("Clip identified"), recall, say("reconstructions that pick their own clip out of a gallery")),
        third,
    )


def _picture(results: Mapping[str, Any]) -> Headline:
    title = say("Picture recovered")
    strongest = best(results)
    if strongest is None:
        return Headline(
            title=title, value="—", interval=say("not measured"), detail=say("no attack produced a picture")
        )
    score = strongest.result["score"]
    payloads = canaries(results)
    # A range of scenes alone would leave out the number beside it when that is a canary's.
    everything = strongest.result["probe"] in payloads
    held = strongest.finding["reference_frames"]  # an attacker who holds frames of the scene is another attacker
    shown_runs = [
        b
        for b in scored(results)
        if b.finding["reference_frames"] == held and (everything or b.result["probe"] not in payloads)
    ]
    gains = [g for b in shown_runs if (g := real(b.result["score"]["gain"])) is not None]
    if not gains or real(score["gain"]) is None:
        return Headline(
            title=title,
            value=decibels(score["psnr"]),
            interval=say("no baseline"),
            detail=say("PSNR of the best run"),
        )
    shown = [max(-10.0, min(40.0, gain)) for gain in gains]
    return Headline(
        title=title,
        value=decibels(score["gain"], signed=True),
        interval=say_many(
            "%(low)s to %(high)s over %(n)s run, chance 0",
            "%(low)s to %(high)s over %(n)s runs, chance 0",
            len(gains),
            low=decibels(min(gains), signed=True, unit=False),
            high=decibels(max(gains), signed=True),
        ),
        detail=say(
            "best picture %(psnr)s, best blind guess %(guess)s",
            psnr=decibels(score["psnr"]),
            guess=decibels(blind(score)),
        ),
        low=min(shown),
        high=max(shown),
        point=max(-10.0, min(40.0, real(score["gain"]) or 0.0)),
        chance=0.0,
        floor=-10.0,
        top=40.0,
    )


def _share(title: str, interval: Mapping[str, Any] | None, detail: str, reason: str | None = None) -> Headline:
    if interval is None:
        return Headline(
            title=title,
            value="—",
            interval=say("not measured"),
            detail=recorded(reason) if reason else say("no attack measured it"),
        )
    return Headline(
        title=title,
        value=of(interval),
        interval=say("95%%: %(span)s", span=span(interval)),
        detail=say("%(share)s of %(what)s", share=percent(_rate(interval)), what=detail)
        if interval["trials"]
        else detail,
        low=_unit(interval["low"]),
        high=_unit(interval["high"]),
        point=_unit(_rate(interval)),
        chance=_unit(interval["chance"]),
    )


def _rate(interval: Mapping[str, Any]) -> float:
    return interval["hits"] / interval["trials"] if interval["trials"] else 0.0


def _unit(value: float) -> float:
    return max(0.0, min(1.0, value))


def ranked(results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the results of one finding that have a score, the largest gain first."""
    return sorted((r for r in results if r["score"] is not None), key=lambda r: strength(r)[-1], reverse=True)


def strength(result: Mapping[str, Any], payloads: frozenset[str] = frozenset()) -> tuple[bool, bool, int, bool, float]:
    """Return the key by which results are compared: recovered, a scene, grade, pictured, and gain over a guess."""
    gain = real(result["score"]["gain"])
    grade = GRADE_ORDER.index(result["grade"])
    recovered = grade >= GRADE_ORDER.index("RECOGNISABLE")
    scene, pictured = result["probe"] not in payloads, result["pictures"] is not None
    return recovered, scene, grade, pictured, -1e9 if gain is None else gain
