"""Severity 0-10 of the worst demonstrated case, with its formula and a vector string."""

from auditor.records import record
from auditor.results.scores import Grade
from auditor.results.severity import WHOLE_MAP, Band, Rated, limits

FORMULA = "severity = bottom + (top - bottom) x (fidelity + preconditions + reach) / 3, within the band of the grade"

# The band says what was shown, so that `--fail-on` stops at what its name says, however the rest turned out.
_BANDS: dict[Grade, Band] = {
    Grade.NOT_SHOWN: "none",
    Grade.GIST: "medium",
    Grade.RECOGNISABLE: "high",
    Grade.EXACT: "critical",
}
# A label, or that a frame was in a clip, tells less of a person than which clip it was.
_LABEL_ONLY: Band = "low"
# Nothing beyond the update and the public model, labels that have to be guessed, frames of the scene that have to be
# got: three steps, equally far apart as nothing measured says otherwise.
_PRECONDITIONS = {"none": 1.0, "labels": 0.5, "reference": 0.0}


@record
class Severity(Rated):
    """A score in [0, 10] in the familiar bands, under our own name and formula, with its three inputs."""

    fidelity: float
    preconditions: float
    reach: float


def severity(
    grade: Grade, *, psnr: float, reach: float, knows: str = "none", threat_model: str = "C", label_only: bool = False
) -> Severity:
    """Place what was shown within the band of its grade.

    EXACT is critical, RECOGNISABLE high, GIST medium, and low where labels or frame membership alone were read. Within
    the band the three inputs count alike: no measurement prefers one.

    Parameters
    ----------
    psnr
        Of the best reconstruction, in dB: a recognisable clip has fidelity 0 at 15 dB and 1 at 35 dB, where it would
        be exact; less than recognisable is 0.
    reach
        Share of probes and seeds at this grade, in [0, 1].
    knows
        none, labels or reference.
    """
    fidelity = 1.0 if grade is Grade.EXACT else 0.0
    if grade is Grade.RECOGNISABLE:
        fidelity = min(1.0, max(0.0, (psnr - 15.0) / 20.0))
    band = _LABEL_ONLY if label_only and grade is Grade.GIST else _BANDS[grade]
    return _within(band, fidelity, reach, knows, threat_model, grade.name)


def severity_of_map(per_pixel: float, reach: float) -> Severity:
    """Rate an inner value of the net that was read off exactly, without a picture.

    As many numbers as the clip holds are high: a picture is in them. Fewer are medium: they tell which clip it was.

    Parameters
    ----------
    per_pixel
        How many numbers it holds for each pixel value.
    """
    band = _BANDS[Grade.RECOGNISABLE if per_pixel >= WHOLE_MAP else Grade.GIST]
    return _within(band, min(1.0, per_pixel), reach, "none", "C", "FEATURE_MAP")


def _within(band: Band, fidelity: float, reach: float, knows: str, threat_model: str, shown: str) -> Severity:
    preconditions = _PRECONDITIONS[knows]
    bottom, top = limits(band)
    score = round(bottom + (top - bottom) * (fidelity + preconditions + reach) / 3.0, 1)
    vector = f"FLA:2/TM:{threat_model}/K:{knows}/G:{shown}/F:{fidelity:.2f}/P:{preconditions:.2f}/R:{reach:.2f}"
    return Severity(score=score, vector=vector, fidelity=fidelity, preconditions=preconditions, reach=reach)
