"""Severity 0-10 of the worst demonstrated case, with its formula and a vector string."""

from auditor.records import record
from auditor.results.scores import Grade
from auditor.results.severity import Rated

FORMULA = "severity = 10 x fidelity x preconditions x (0.9 + 0.1 x reach)"

_FIDELITY = {Grade.NOT_SHOWN: 0.0, Grade.GIST: 0.4, Grade.RECOGNISABLE: 0.8, Grade.EXACT: 1.0}
# An exact feature map that holds fewer numbers than the clip tells which clip it was; with as many, a picture is in it.
_MAP = (_FIDELITY[Grade.GIST], _FIDELITY[Grade.RECOGNISABLE])
# A label or a bit tells less than a picture.
_LABEL_ONLY = 0.3
# Knowing the label of a clip is an easy guess; owning a frame of the scene takes access; an active server must cheat.
_PRECONDITIONS = {"none": 1.0, "labels": 0.97, "reference": 0.95}


@record
class Severity(Rated):
    """A score in [0, 10] in the familiar bands, under our own name and formula, with its three factors."""

    fidelity: float
    preconditions: float
    reach: float


def severity(
    grade: Grade, *, psnr: float, reach: float, knows: str = "none", threat_model: str = "C", label_only: bool = False
) -> Severity:
    """Combine what was shown, what the attacker had to know, and how often it worked.

    Parameters
    ----------
    psnr
        Of the best reconstruction, in dB: from 15 to 35 dB a recognisable clip gains up to 0.15 in fidelity.
    reach
        Share of probes and seeds at this grade, in [0, 1].
    knows
        none, labels or reference.
    """
    fidelity = _LABEL_ONLY if label_only and grade is Grade.GIST else _FIDELITY[grade]
    if grade is Grade.RECOGNISABLE:
        fidelity += 0.15 * min(1.0, max(0.0, (psnr - 15.0) / 20.0))
    return _combined(fidelity, reach, knows, threat_model, grade.name)


def severity_of_map(per_pixel: float, reach: float) -> Severity:
    """Rate an inner value of the net that was read off exactly, without a picture.

    Parameters
    ----------
    per_pixel
        How many numbers it holds for each pixel value.
    """
    fidelity = _MAP[0] + (_MAP[1] - _MAP[0]) * min(1.0, per_pixel)
    return _combined(fidelity, reach, "none", "C", "FEATURE_MAP")


def _combined(fidelity: float, reach: float, knows: str, threat_model: str, shown: str) -> Severity:
    preconditions = _PRECONDITIONS[knows]
    score = round(10.0 * fidelity * preconditions * (0.9 + 0.1 * reach), 1)
    vector = f"FLA:1/TM:{threat_model}/K:{knows}/G:{shown}/F:{fidelity:.2f}/P:{preconditions:.2f}/R:{reach:.2f}"
    return Severity(score=score, vector=vector, fidelity=fidelity, preconditions=preconditions, reach=reach)
