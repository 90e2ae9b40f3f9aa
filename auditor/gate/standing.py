"""Where every rule stands in one audit, under names that stay the same from audit to audit."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from auditor.results.consistency import GRADES
from auditor.results.scores import EXACT_DB, EXPOSED_SHARE
from auditor.results.severity import WHOLE_MAP, limits

Results = Mapping[str, Any]
# For results that do not tell the share: half of a blind guess's squared error.
_EXPOSED_DB = 3.0
_GIST, _RECOGNISABLE = GRADES.index("GIST"), GRADES.index("RECOGNISABLE")
_NOTHING: Mapping[str, Any] = {"score": 0.0, "band": "none", "vector": ""}


@dataclass(frozen=True, slots=True)
class BestRun:
    """The best reconstruction of one clip and repetition: PSNR in dB, at most `EXACT_DB`, and its grade's place."""

    psnr: float
    grade: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One rule about one subject in one audit.

    Attributes
    ----------
    present
        Whether it is an alert: demonstrated with a null control that held, or exposed.
    trusted
        False where it was found, and its null control did not hold: neither there nor gone.
    grade
        Place in `GRADES`; None for what no attack demonstrates.
    runs
        By clip and repetition.
    intervals
        Proportions with their intervals, by what was counted.
    exposure, at_most
        Predicted PSNR in dB, at least and at most; None where there is none. Earlier versions told no `at_most`.
    certain
        Whether it rests on a proof, which no repeat can change.
    attacks
        Names of the attacks behind it.
    """

    rule: str
    subject: str
    threat_model: str
    present: bool
    message: str
    layer: str = ""
    trusted: bool = True
    grade: int | None = None
    severity: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    runs: Mapping[tuple[str, int], BestRun] = field(default_factory=dict)
    intervals: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    exposure: float | None = None
    at_most: float | None = None
    certain: bool = False
    attacks: frozenset[str] = frozenset()

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is matched by."""
        return (self.rule, self.subject, self.threat_model)


def fingerprint(key: tuple[str, str, str]) -> str:
    """Return 16 hex digits that name a rule about a subject under a threat model: no number, no order, no model."""
    return hashlib.sha256("\x1f".join(key).encode("utf-8", "replace")).hexdigest()[:16]


def tells_families(results: Results) -> bool:
    """Tell whether results name the family of every attack, as those of earlier versions do not."""
    return all(finding.get("family") for finding in results["findings"])


def standings(results: Results, by_family: bool = True) -> dict[tuple[str, str, str], Standing]:
    """Return where every rule stands, present or not, by key; without families attacks stand by their names."""
    found = (
        *_reconstructions(results, by_family),
        *_feature_maps(results),
        *_labels(results),
        *_membership(results),
        *_exposures(results),
        *_inconclusive(results),
    )
    return {standing.key: standing for standing in found}


def _reconstructions(results: Results, by_family: bool) -> Iterator[Standing]:
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for finding in results["findings"]:
        family = (finding.get("family") if by_family else "") or finding["attack"]
        groups.setdefault((family, finding["reference"], finding["threat_model"]), []).append(finding)
    for (family, reference, threat_model), members in groups.items():
        counted = [f for f in members if f["counts"]]
        worst = max(counted or members, key=_weight)
        grade = GRADES.index(worst["grade"]) if counted else 0
        yield Standing(
            rule="clip-reconstruction",
            subject=family if reference == "R0" else f"{family} {reference}",
            threat_model=threat_model,
            present=grade >= _GIST,
            trusted=bool(counted),
            grade=grade,
            severity=worst["severity"] if counted else _NOTHING,
            message=worst["summary"],
            runs=_runs(counted),
            intervals=_intervals(worst) if counted else {},
            attacks=frozenset(f["attack"] for f in members),
        )


def _weight(finding: Mapping[str, Any]) -> tuple[int, float]:
    return GRADES.index(finding["grade"]), finding["severity"]["score"] or 0.0


def _runs(findings: Sequence[Mapping[str, Any]]) -> dict[tuple[str, int], BestRun]:
    """The best of a family on each clip and repetition."""
    best: dict[tuple[str, int], BestRun] = {}
    for result in (r for f in findings for r in f["results"] if r["score"] is not None):
        run = BestRun(min(EXACT_DB, _decibel(result["score"]["psnr"])), GRADES.index(result["grade"]))
        key = (result["probe"], result["repetition"])
        held = best.get(key)
        best[key] = run if held is None else BestRun(max(held.psnr, run.psnr), max(held.grade, run.grade))
    return best


def _intervals(finding: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {name: finding[name] for name in ("recall", "bits") if finding[name] is not None}


def _feature_maps(results: Results) -> Iterator[Standing]:
    for found in results.get("feature_maps", ()):
        yield Standing(
            rule="feature-map",
            subject=found["layer"],
            layer=found["layer"],
            threat_model=results["protocol"]["threat_model"]["id"],
            present=found["counts"],
            grade=(_RECOGNISABLE if found["per_pixel"] >= WHOLE_MAP else _GIST) if found["counts"] else 0,
            severity=found["severity"] if found["counts"] else _NOTHING,
            message=found["summary"],
            certain=True,
            attacks=frozenset((found["attack"],)),
        )


def _labels(results: Results) -> Iterator[Standing]:
    labels = results["labels"]
    interval = labels["interval"]
    if interval is None:
        return
    grade = GRADES.index(labels["grade"] or "NOT_SHOWN")
    proof = "; the updates prove every one" if labels.get("proven") else ""
    yield Standing(
        rule="label-inference",
        subject="labels",
        threat_model=results["protocol"]["threat_model"]["id"],
        present=grade >= _GIST,
        grade=grade,
        severity=labels.get("severity") or (_least_of_low() if grade >= _GIST else _NOTHING),
        message=f"{interval['hits']} of {interval['trials']} labels were read off by {labels['rule']}{proof}.",
        intervals={"labels": interval},
        certain=bool(labels.get("proven")) and grade >= _GIST,
    )


def _least_of_low() -> Mapping[str, Any]:
    """What is known of the severity of labels in results that do not tell it: its band."""
    return {"score": limits("low")[0], "band": "low", "vector": ""}


def _membership(results: Results) -> Iterator[Standing]:
    found = results.get("membership")
    if not found:
        return
    grade = GRADES.index(found["grade"] or "NOT_SHOWN")
    yield Standing(
        rule="frame-membership",
        subject="frames",
        threat_model=results["protocol"]["threat_model"]["id"],
        present=grade >= _GIST,
        grade=grade,
        severity=found.get("severity") or (_least_of_low() if grade >= _GIST else _NOTHING),
        message="A test on the update tells whether a frame was in the client's clip."
        if grade >= _GIST
        else "No frame was told to be in a client's clip.",
        intervals={"frames": found["true_positives"]} if found["true_positives"] else {},
    )


def _exposures(results: Results) -> Iterator[Standing]:
    threat_model = results["protocol"]["threat_model"]["id"]
    everything = results["exposure"]["all"]
    if everything is not None:
        yield _exposure("update-exposure", "update", "", everything, threat_model, "Everything that is sent")
    for layer in results["layers"]:
        if layer["exposure"] is not None:
            name = layer["name"]
            yield _exposure("layer-exposure", name, name, layer["exposure"], threat_model, f"Layer {name}")


def _exposure(
    rule: str, subject: str, layer: str, exposure: Mapping[str, Any], threat_model: str, what: str
) -> Standing:
    psnr, prior, share = _decibel(exposure["psnr"]), _decibel(exposure["prior"]), exposure.get("determined")
    told = "" if share is None else f", {share:.0%} of the variance that was measured"
    return Standing(
        rule=rule,
        subject=subject,
        layer=layer,
        threat_model=threat_model,
        present=psnr >= prior + _EXPOSED_DB if share is None else share >= EXPOSED_SHARE,
        message=f"{what} exposes a clip to {psnr:.1f} dB by linear analysis{told}; {prior:.1f} dB takes no update.",
        exposure=psnr,
        at_most=None if exposure.get("at_most") is None else _decibel(exposure["at_most"]),
    )


def _inconclusive(results: Results) -> Iterator[Standing]:
    verdict = results["verdict"]
    present = verdict["word"] == "INCONCLUSIVE"
    yield Standing(
        rule="inconclusive",
        subject="audit",
        threat_model=results["protocol"]["threat_model"]["id"],
        present=present,
        message=f"The audit {'cannot tell' if present else 'can tell'}: {'; '.join(verdict['reasons'])}.",
    )


def _decibel(value: Any) -> float:
    if isinstance(value, str):
        return math.inf if value == "inf" else -math.inf
    return -math.inf if value is None else float(value)
