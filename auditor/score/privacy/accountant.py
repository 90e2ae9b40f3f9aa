"""What secret sampling adds to the Gaussian mechanism's privacy, by Google's accountant (the extra fl-audit[dp])."""

import importlib
import math
from typing import Any

# Losses are kept on a grid of 1e-4: beyond this total privacy (as mu of a Gaussian) it would fill the memory, and no
# epsilon that anybody claims is near.
_MOST_MU = 40.0
_MOST_ROUNDS = 1_000_000


def sampled_epsilon(mu: float, sampling: float, rounds: int, delta: float) -> float | None:
    """Return an upper bound on epsilon where each clip enters a round by a coin that nobody sees (Poisson sampling).

    By privacy loss distributions (Koskela, Jaelkoe & Honkela 2020, arXiv 1906.03049; dp-accounting rounds them up). A
    clip is added or taken away.

    Parameters
    ----------
    mu
        Sensitivity over sigma of one round, above 0.
    sampling
        Probability that a clip takes part in a round, in (0, 1].

    Returns
    -------
    None where dp-accounting is not installed; infinity where there is so little noise that it is not asked.
    """
    try:
        accounting: Any = importlib.import_module("dp_accounting")
        distributions: Any = importlib.import_module("dp_accounting.pld")
    except ImportError:
        return None
    # The central limit of sampled Gaussian mechanisms (Bu et al. 2020, arXiv 1911.11607).
    if mu > _MOST_MU**0.5 or rounds > _MOST_ROUNDS or sampling * math.sqrt(rounds * math.expm1(mu**2)) > _MOST_MU:
        return math.inf
    event = accounting.PoissonSampledDpEvent(sampling, accounting.GaussianDpEvent(1.0 / mu))
    accountant = distributions.PLDAccountant()
    accountant.compose(accounting.SelfComposedDpEvent(event, rounds))
    return float(accountant.get_epsilon(delta))
