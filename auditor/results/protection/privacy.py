"""A privacy claim beside what the defences really give, in audits and inspections."""

from auditor.results.declare import Later, Measured, Share, record
from auditor.results.scores import Interval


@record
class RecallBound:
    """How often the right clip comes first among so many candidates: measured, and what privacy allows at most.

    `claimed` follows from the claim and `exact` from the defences: Phi(Phi^-1(1/N) + mu). Contradicted where the
    measured interval lies above what the claim allows.
    """

    candidates: int
    measured: Interval
    claimed: Share
    exact: Share
    contradicted: bool


@record
class PrivacyClaimBlock:
    """(epsilon, delta)-differential privacy as claimed over `rounds`, and the Gaussian mechanism's exact epsilon.

    `sensitivity` and `sigma` are those of one update as it is seen, `mu` is their quotient over all rounds; None where
    there is no bound, as there is no noise or no clipping. So is `exact_epsilon` then: it is infinite. Where `sampling`
    is claimed and `credited`, `exact_epsilon` is an accountant's upper bound; `note` says what earned none, and why.
    """

    epsilon: Measured
    delta: Measured
    rounds: int
    sensitivity: Measured | None
    sigma: Measured | None
    mu: Measured | None
    exact_epsilon: Measured | None
    holds: bool
    sentence: str
    recall: RecallBound | None
    sampling: Later[Measured | None] = None
    clients: Later[int | None] = None
    credited: Later[bool] = False
    note: Later[str] = ""
