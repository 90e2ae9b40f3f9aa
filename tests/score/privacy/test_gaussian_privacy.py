"""The Gaussian mechanism: delta against its integral, epsilon against known values, and the bound on picking a clip."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from auditor.score import gaussian_epsilon, gaussian_mu, most_recall
from auditor.score.privacy.gaussian_privacy import gaussian_delta


@pytest.mark.parametrize("mu", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
def test_delta_is_the_hockey_stick_divergence_of_two_normals(mu, epsilon):
    def beyond(x: float) -> float:
        return max(0.0, stats.norm.pdf(x, mu) - math.exp(epsilon) * stats.norm.pdf(x))

    witness = integrate.quad(beyond, -10, 14, limit=500)[0]
    assert gaussian_delta(epsilon, mu) == pytest.approx(witness, abs=1e-7)


def test_epsilon_is_where_delta_ends():
    for mu, delta in ((0.5, 1e-5), (1.0, 1e-6), (10.0, 1e-3)):
        epsilon = gaussian_epsilon(mu, delta)
        assert gaussian_delta(epsilon, mu) == pytest.approx(delta, rel=1e-6)
        assert gaussian_mu(epsilon, delta) == pytest.approx(mu, rel=1e-6)
    assert gaussian_epsilon(1e-9, 1e-5) == 0.0
    assert gaussian_epsilon(math.inf, 1e-5) == math.inf


def test_the_classical_formula_is_safe_for_small_epsilon_only():
    """sigma = sqrt(2 ln(1.25 / delta)) / epsilon: Balle & Wang 2018, figure 1."""
    classical = {epsilon: epsilon / math.sqrt(2 * math.log(1.25e5)) for epsilon in (0.5, 0.9, 30.0)}
    assert all(gaussian_epsilon(classical[e], 1e-5) < e for e in (0.5, 0.9))
    assert gaussian_epsilon(classical[30.0], 1e-5) > 30.0


def test_a_platforms_configuration_is_worth_two_hundred_million():
    """Clipping 1 and sensitivity 1e-4 at epsilon 10: mu^2 / 2 and a little more, by the log of the likelihood ratio."""
    sigma = 1e-4 * math.sqrt(2 * math.log(1.25e5)) / 10
    mu = 1.0 / sigma
    epsilon = gaussian_epsilon(mu, 1e-5)
    assert epsilon == pytest.approx(2.1e8, rel=0.1)
    # The privacy loss is normal with mean mu^2 / 2 and deviation mu; its tail beyond epsilon is almost all of delta.
    assert epsilon == pytest.approx(mu**2 / 2 + mu * stats.norm.isf(1e-5), rel=1e-6)


@pytest.mark.parametrize(("epsilon", "share"), [(1.0, 0.020), (10.0, 0.42)])
def test_picking_one_of_85_clips(epsilon, share):
    """By the noise of the classical formula, with the sensitivity that it assumes."""
    assert most_recall(85, epsilon / math.sqrt(2 * math.log(1.25e5))) == pytest.approx(share, abs=0.003)


def test_no_attack_on_normal_outputs_picks_more_often_than_the_bound():
    mu, candidates = 1.5, 20
    rng = np.random.default_rng(0)
    # Candidates as far apart as can be, the likeliest one picked.
    directions = np.eye(candidates) * mu
    seen = directions[0] + rng.standard_normal((40_000, candidates))
    picked = (seen @ directions.T).argmax(1)
    assert (picked == 0).mean() <= most_recall(candidates, mu)
    assert most_recall(candidates, 0.0) == pytest.approx(1 / candidates)
    assert most_recall(candidates, math.inf) == 1.0
