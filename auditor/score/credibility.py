"""Why an attack ended where it did: information missing, the optimiser's failure, or the end of the budget."""

from auditor.records import Outcome, record
from auditor.results.attempts import Conclusion

# Simulating the client at the truth differs from its update by rounding alone: below 1e-6 on a CPU, 1e-5 on a GPU.
SAME_UPDATE = 1e-4
# Seeds of one attack on one clip differ by about 1 dB: less than twice that is no difference between two runs.
APART_DB = 2.0
# Exposure is a linear prediction; attacks on smooth nets end within 3 dB of it or above.
NEAR_EXPOSURE_DB = 3.0


@record
class Evidence:
    """What a conclusion rests on; None stands for what was not measured.

    Attributes
    ----------
    psnr, objective, outcome
        Of the attack: dB against the truth, and its own objective where it ended.
    exact
        Whether the clip was recovered.
    labels_right
        Whether the attack worked with the true labels.
    at_truth
        Relative difference between the update and the client's simulation on the true clips.
    truth_psnr, truth_objective
        Where a descent started at the truth ended: dB, and the attacker's objective.
    exposure
        PSNR that linear analysis predicts, dB.
    """

    psnr: float
    objective: float
    outcome: Outcome
    exact: bool = False
    labels_right: bool = True
    at_truth: float | None = None
    truth_psnr: float | None = None
    truth_objective: float | None = None
    exposure: float | None = None


def conclude(e: Evidence) -> Conclusion:
    """Tell why an attack ended where it did.

    The same search started at the truth ends where objective and priors hold it. As far away as the attack itself:
    information is missing, unless exposure contradicts it. Clearly nearer: the update holds more than was found, and
    the attacker's own objective tells whether an attacker could know: lower there means that only the search failed
    (unless exposure contradicts it); not lower, that the update does not tell the two clips apart.
    """
    if e.at_truth is not None and not e.at_truth <= SAME_UPDATE:
        return Conclusion.MISMATCH
    if e.exact:
        return Conclusion.RECOVERED
    if not e.labels_right:
        return Conclusion.WRONG_LABELS
    if e.outcome is Outcome.OUT_OF_BUDGET:
        return Conclusion.OUT_OF_BUDGET
    if e.truth_psnr is None or e.truth_objective is None:
        return Conclusion.UNDECIDED
    exposed = None if e.exposure is None else e.exposure > e.psnr + NEAR_EXPOSURE_DB
    if e.truth_psnr < e.psnr + APART_DB:
        return Conclusion.UNDECIDED if exposed else Conclusion.INFORMATION_MISSING
    if e.truth_objective >= e.objective:
        return Conclusion.INFORMATION_MISSING
    return Conclusion.UNDECIDED if exposed is False else Conclusion.OPTIMISER_FAILED
