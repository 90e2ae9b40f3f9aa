"""Lower bounds on epsilon from samples: never above the true one, and near it with many runs."""

import numpy as np
import pytest
from scipy import stats

from auditor.score import empirical_epsilon, gaussian_epsilon, matched, normal_epsilon
from auditor.score.privacy.filter_bound import _proven

DELTA = 1e-5


def samples(mu: float, runs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal(runs), mu + rng.standard_normal(runs)


@pytest.mark.parametrize(("mu", "runs"), [(0.3, 300), (1.0, 300), (3.0, 200)])
def test_no_bound_exceeds_the_true_epsilon_of_the_gaussian_mechanism(mu, runs):
    """1,000 trials in all, over weak and strong mechanisms."""
    true = gaussian_epsilon(mu, DELTA)
    for seed in range(334):
        pair = samples(mu, runs, seed)
        assert empirical_epsilon(*pair, DELTA) <= true
        assert (normal_epsilon(*pair, DELTA) or 0.0) <= true


@pytest.mark.parametrize("mu", [1.0, 2.0])
def test_half_of_epsilon_is_proven_by_ten_thousand_runs(mu):
    pair = samples(mu, 10_000, 5)
    normal = normal_epsilon(*pair, DELTA)
    assert normal is not None
    assert normal >= 0.85 * gaussian_epsilon(mu, DELTA)
    assert empirical_epsilon(*pair, DELTA) >= 0.25 * gaussian_epsilon(mu, DELTA)


def test_a_canary_that_is_always_seen_proves_what_so_many_runs_can():
    without, found = np.zeros(2000), np.ones(2000)
    assert np.log(2000 / 8) - 0.7 < empirical_epsilon(without, found, DELTA) < np.log(2000 / 2)
    assert empirical_epsilon(found, without, DELTA) == pytest.approx(empirical_epsilon(without, found, DELTA))


def test_rates_are_bounded_as_elsewhere():
    """One threshold at 0 by the intervals of the project, which scipy's binomial test witnesses."""
    without, found = samples(1.0, 2000, 3)
    half = (without[1000:], found[1000:])
    false, true = (stats.binomtest(int((one > 1.0).sum()), 1000).proportion_ci(method="exact") for one in half)
    proven = _proven(*half, np.array([1.0]), DELTA)
    assert proven[0] == pytest.approx(np.log((true.low - DELTA) / false.high))


def test_no_difference_proves_nothing():
    assert empirical_epsilon(*samples(0.0, 4000, 1), DELTA) < 0.3
    assert (normal_epsilon(*samples(0.0, 4000, 1), DELTA) or 0.0) == 0.0


def test_samples_that_are_not_normal_are_not_taken_for_it():
    rng = np.random.default_rng(0)
    assert normal_epsilon(rng.laplace(size=2000), 1 + rng.laplace(size=2000), DELTA) is None
    assert normal_epsilon(rng.standard_normal(2000), 1 + 2 * rng.standard_normal(2000), DELTA) is None


def test_tensors_weigh_by_their_noise():
    quiet, loud = np.array([1.0, 2.0]), np.array([10.0, 20.0])
    assert matched([quiet, loud], [0.1, 10.0]).tolist() == pytest.approx([100.1, 200.2])
