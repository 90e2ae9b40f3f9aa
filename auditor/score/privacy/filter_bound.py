"""The epsilon that two samples of a filter's outputs prove: of a base update, and of the base with a canary."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import special, stats

from auditor.score.privacy.gaussian_privacy import gaussian_epsilon

# Normal samples prove so much that they can afford a bound which fails one time in a million.
_NORMAL_LEVEL = 1e-6
# Half of 5% for each of two rates.
_SIDE = 0.025
# Shares of the runs at which a threshold is tried.
_QUANTILES = np.linspace(0.002, 0.998, 200)
# Samples of normal noise fail the test of normality, or of equal variances, one time in a thousand each.
_DOUBT = 1e-3
Sample = Float[np.ndarray, " run"]


def empirical_epsilon(without: Sample, with_canary: Sample, delta: float) -> float:
    """Return the epsilon that a threshold on the outputs proves at 95%, 0 for none; whatever their distribution.

    A test of (epsilon, delta)-private outputs has TPR <= e^epsilon FPR + delta. The threshold is chosen on the first
    halves; its rates are bounded on the second halves (Clopper & Pearson 1934, half of the level each; Jagielski,
    Ullman & Oprea 2020, arXiv 2006.07709). The runs end at about log(K / 8).
    """
    half = len(without) // 2
    best, chosen = -math.inf, (0.0, 1.0)
    for sign in (1.0, -1.0):
        first = sign * without[:half], sign * with_canary[:half]
        thresholds = np.quantile(np.concatenate(first), _QUANTILES)
        found = _proven(*first, thresholds, delta)
        if found.max() > best:
            best, chosen = float(found.max()), (float(thresholds[found.argmax()]), sign)
    threshold, sign = chosen
    last = _proven(sign * without[half:], sign * with_canary[half:], np.array([threshold]), delta)
    return max(0.0, float(last[0]))


def _proven(without: Sample, with_canary: Sample, thresholds: Sample, delta: float) -> Sample:
    """Return the epsilon that each threshold proves, minus infinity for none."""
    runs = len(without)
    false = runs - np.searchsorted(np.sort(without), thresholds, side="right")
    true = runs - np.searchsorted(np.sort(with_canary), thresholds, side="right")
    # Clopper and Pearson's bounds, each by its own inverse of the incomplete beta function.
    most = np.where(false < runs, special.betaincinv(false + 1, np.maximum(runs - false, 1), 1.0 - _SIDE), 1.0)
    least = np.where(true > 0, special.betaincinv(np.maximum(true, 1), runs - true + 1, _SIDE), 0.0)
    with np.errstate(divide="ignore"):
        return np.where(least > delta, np.log(np.maximum(least - delta, 0.0)) - np.log(most), -math.inf)


def normal_epsilon(without: Sample, with_canary: Sample, delta: float) -> float | None:
    """Return the epsilon that two normal samples of one variance prove; None where they do not look like that.

    mu is at least (m1 - m0) / s less 4.75 deviations of that estimate, sqrt(2 / K + mu^2 / 4K) (Andrew et al. 2023,
    arXiv 2302.03098, section 4, with a bound in place of the estimate).
    """
    runs = len(without)
    if min(stats.normaltest(without).pvalue, stats.normaltest(with_canary).pvalue) < _DOUBT:
        return None
    ratio = float(np.var(without, ddof=1) / np.var(with_canary, ddof=1))
    tail = 2.0 * min(stats.f.sf(ratio, runs - 1, runs - 1), stats.f.cdf(ratio, runs - 1, runs - 1))
    if tail < _DOUBT:
        return None
    spread = math.sqrt(0.5 * float(np.var(without, ddof=1) + np.var(with_canary, ddof=1)))
    mu = abs(float(with_canary.mean() - without.mean())) / spread
    least = mu - float(special.ndtri(1.0 - _NORMAL_LEVEL)) * math.sqrt(2.0 / runs + mu**2 / (4.0 * runs))
    return gaussian_epsilon(max(0.0, least), delta)


def matched(outputs: Sequence[Sample], spreads: Sequence[float]) -> Sample:
    """Return the sum of projections by tensor, each weighted by its noise: `outputs` are (run,) for every tensor."""
    return np.asarray(sum(out / spread**2 for out, spread in zip(outputs, spreads, strict=True)))
