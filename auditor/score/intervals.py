"""Confidence intervals of proportions, and when a proportion is above chance."""

from scipy import special  # scipy.stats would add a second and a half to every start

from auditor.results.scores import Interval

LEVEL = 0.95
_ALPHA = 1 - LEVEL


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Return the 95% score interval of a proportion (Wilson, JASA 22, 1927); (0, 1) without trials.

    Its coverage is 95% on average over proportions and may be below for few trials.
    """
    _check(hits, trials)
    if not trials:
        return 0.0, 1.0
    z = float(special.ndtri(1 - _ALPHA / 2))
    share, spread = hits / trials, z * z / trials
    centre = (share + spread / 2) / (1 + spread)
    half = (share * (1 - share) * spread + spread * spread / 4) ** 0.5 / (1 + spread)
    # The closed form meets the ends exactly, floating point does not.
    return 0.0 if hits == 0 else max(0.0, centre - half), 1.0 if hits == trials else min(1.0, centre + half)


def clopper_pearson(hits: int, trials: int) -> tuple[float, float]:
    """Return the exact 95% interval of a proportion (Clopper and Pearson, Biometrika 26, 1934); (0, 1) without trials.

    Its coverage is never below 95%.
    """
    _check(hits, trials)
    low = float(special.betaincinv(hits, trials - hits + 1, _ALPHA / 2)) if hits else 0.0
    high = float(special.betaincinv(hits + 1, trials - hits, 1 - _ALPHA / 2)) if hits < trials else 1.0
    return low, high


def recall_interval(hits: int, trials: int, gallery: int, at: int = 1) -> Interval:
    """Return Recall@`at` with Wilson's interval; `gallery` counts the truth too: chance is at/gallery."""
    low, high = wilson(hits, trials)
    return Interval(
        hits=hits, trials=trials, low=low, high=high, chance=min(1.0, at / gallery), method="Wilson score, 95%"
    )


def bits_interval(correct: int, n: int, blind: float = 0.5) -> Interval:
    """Return the share of canary bits read correctly with the exact interval; chance is 1/2.

    `blind` is the share that reference frames hand over without any update: chance is at least that.

    Exact because the payload is uniformly random: whatever an estimate that knows nothing of it looks like, the count
    of correct bits is Binomial(n, 1/2).
    """
    low, high = clopper_pearson(correct, n)
    return Interval(hits=correct, trials=n, low=low, high=high, chance=max(0.5, blind), method="Clopper-Pearson, 95%")


def proportion(hits: int, trials: int, chance: float) -> Interval:
    """Return any proportion with the exact interval, beside what chance would give."""
    low, high = clopper_pearson(hits, trials)
    return Interval(hits=hits, trials=trials, low=low, high=high, chance=chance, method="Clopper-Pearson, 95%")


def binomial_tail(interval: Interval) -> float:
    """Return P(X >= hits) for X ~ Binomial(trials, chance): the one-sided p-value of the exact binomial test."""
    if interval.hits < 1:
        return 1.0
    return float(special.bdtrc(interval.hits - 1, interval.trials, interval.chance))


def significant(interval: Interval, alpha: float = _ALPHA) -> bool:
    """Tell whether a proportion is above chance: the interval lies above it AND the exact tail is at most `alpha`.

    Both, because Wilson's lower bound is too high for few trials: 2 hits of 3 at chance 0.2 give a lower bound of
    0.208, above chance, although chance does as well one time in ten (0.104).
    """
    return interval.above_chance and binomial_tail(interval) <= alpha


def _check(hits: int, trials: int) -> None:
    if not 0 <= hits <= trials:
        raise ValueError(f"{hits} hits of {trials} trials")
