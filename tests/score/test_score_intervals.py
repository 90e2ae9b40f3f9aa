import numpy as np
import pytest
from scipy import stats

from auditor.score.intervals import (
    binomial_tail,
    bits_interval,
    clopper_pearson,
    recall_interval,
    significant,
    wilson,
)

CASES = [(hits, trials) for trials in (1, 2, 3, 7, 20, 120) for hits in {0, 1, trials // 3, trials // 2, trials}]


@pytest.mark.parametrize(("hits", "trials"), CASES)
def test_intervals_agree_with_scipy(hits, trials):
    test = stats.binomtest(hits, trials)
    assert wilson(hits, trials) == pytest.approx(tuple(test.proportion_ci(method="wilson")), abs=1e-12)
    assert clopper_pearson(hits, trials) == pytest.approx(tuple(test.proportion_ci(method="exact")), abs=1e-9)


@pytest.mark.parametrize(("hits", "trials"), CASES)
def test_intervals_solve_their_defining_equations(hits, trials):
    z = stats.norm.ppf(0.975)
    for p in wilson(hits, trials):
        # Wilson: the observed share lies z standard errors from the bound, by the bound's own standard error.
        if 0 < p < 1:
            assert abs(hits / trials - p) == pytest.approx(z * (p * (1 - p) / trials) ** 0.5, rel=1e-9)
    low, high = clopper_pearson(hits, trials)
    if hits:
        assert stats.binom.sf(hits - 1, trials, low) == pytest.approx(0.025)
    if hits < trials:
        assert stats.binom.cdf(hits, trials, high) == pytest.approx(0.025)


def test_closed_forms_at_the_ends():
    assert clopper_pearson(0, 10)[1] == pytest.approx(1 - 0.025**0.1)
    assert clopper_pearson(10, 10)[0] == pytest.approx(0.025**0.1)
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == 1
    assert wilson(0, 0) == clopper_pearson(0, 0) == (0, 1)


@pytest.mark.parametrize("n", [5, 30, 120])
def test_exact_intervals_cover_at_least_95_percent(n):
    bounds = [clopper_pearson(k, n) for k in range(n + 1)]
    for p in np.linspace(0.01, 0.99, 33):
        covered = sum(stats.binom.pmf(k, n, p) for k, (low, high) in enumerate(bounds) if low <= p <= high)
        assert covered >= 0.95


def test_impossible_counts_are_refused():
    for hits, trials in ((3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="trials"):
            wilson(hits, trials)


def test_records_carry_chance_and_method():
    recall, bits = recall_interval(2, 3, 85), bits_interval(100, 120)
    assert (recall.chance, bits.chance) == (1 / 85, 0.5)
    assert "Wilson" in recall.method
    assert "Clopper" in bits.method
    assert recall.above_chance
    assert bits.above_chance


def test_significance_needs_the_exact_tail_too():
    liberal = recall_interval(2, 3, 5)
    assert liberal.above_chance
    assert binomial_tail(liberal) == pytest.approx(0.104)
    assert not significant(liberal)
    assert significant(recall_interval(1, 1, 85))
    assert not significant(recall_interval(1, 1, 4))
    assert not significant(recall_interval(0, 0, 85))
    assert not significant(recall_interval(0, 9, 85))
    assert not significant(bits_interval(66, 120))
    assert significant(bits_interval(75, 120))


@pytest.mark.parametrize("trials", [1, 2, 3, 5, 7, 14])
@pytest.mark.parametrize("gallery", [2, 5, 20, 85])
def test_significance_is_wrong_at_most_one_time_in_twenty(trials, gallery):
    wrong = sum(
        stats.binom.pmf(hits, trials, 1 / gallery)
        for hits in range(trials + 1)
        if significant(recall_interval(hits, trials, gallery))
    )
    assert wrong <= 0.05


def test_significance_of_bits_is_wrong_at_most_one_time_in_twenty():
    for n in (4, 20, 120, 376):
        wrong = sum(stats.binom.pmf(k, n, 0.5) for k in range(n + 1) if significant(bits_interval(k, n)))
        assert wrong <= 0.025 + 1e-12


@pytest.mark.parametrize("interval", [recall_interval(3, 9, 85), bits_interval(70, 120)])
def test_tail_agrees_with_scipys_test(interval):
    wanted = stats.binomtest(interval.hits, interval.trials, interval.chance, alternative="greater").pvalue
    assert binomial_tail(interval) == pytest.approx(wanted)


def test_bits_that_a_reference_hands_over_are_chance():
    assert bits_interval(18, 20).above_chance
    held = bits_interval(18, 20, blind=0.85)
    assert held.chance == 0.85
    assert not held.above_chance
    assert bits_interval(18, 20, blind=0.2).chance == 0.5
