"""Differential privacy of the Gaussian mechanism, exactly, and what it allows an attacker who picks a clip."""

import math

from scipy import special

# A bisection in the logarithm ends at the spacing of float64.
_HALVINGS = 200


def gaussian_delta(epsilon: float, mu: float) -> float:
    """Return delta(epsilon) = Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu), mu = sensitivity / sigma.

    Balle & Wang 2018 (arXiv 1805.06530), theorem 8. In logarithms: epsilon may be 1e9.
    """
    if mu <= 0.0:
        return 0.0
    first = float(special.log_ndtr(mu / 2.0 - epsilon / mu))
    second = epsilon + float(special.log_ndtr(-mu / 2.0 - epsilon / mu))
    return math.exp(first) * -math.expm1(min(0.0, second - first))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return the smallest epsilon of (epsilon, delta)-privacy, for 0 < delta < 1; infinite where mu is.

    Rounds on the same clips compose by mu = sqrt(sum of squares) (Dong, Roth & Su 2022, corollary 3.3).
    """
    if math.isinf(mu):
        return math.inf
    if gaussian_delta(0.0, mu) <= delta:
        return 0.0
    low, high = 0.0, 1.0
    while gaussian_delta(high, mu) > delta:
        low, high = high, 2.0 * high
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if gaussian_delta(middle, mu) > delta else (low, middle)
    return high


def gaussian_mu(epsilon: float, delta: float) -> float:
    """Return the largest mu whose Gaussian mechanism is (epsilon, delta)-private."""
    low, high = 0.0, 1.0
    while gaussian_delta(epsilon, high) <= delta:
        low, high = high, 2.0 * high
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if gaussian_delta(epsilon, middle) <= delta else (low, middle)
    return low


def most_recall(candidates: int, mu: float) -> float:
    """Return Phi(Phi^-1(1/N) + mu): how often whoever sees one output picks the right one of N clips, at most.

    For clips that are equally likely beforehand (Kaissis et al. 2023, arXiv 2307.03928; Hayes et al. 2023, 2302.07225).
    """
    if math.isinf(mu):
        return 1.0
    return float(special.ndtr(special.ndtri(1.0 / candidates) + mu))
