"""Privacy claims beside what the defences really give."""

import math
import sys
from types import SimpleNamespace

import pytest
import torch

from auditor.errors import UsageError
from auditor.federated import defend, parse_all
from auditor.pipeline.defended.privacy_claim import PrivacyClaim, claim_of, judge_claim
from auditor.records import FederatedProtocol
from auditor.score import gaussian_epsilon, recall_interval, sampled_epsilon

FLIP = "flower-local-dp:clipping_norm=1,sensitivity=1e-4,epsilon=10,delta=1e-5"


def judged(claim: PrivacyClaim, *specs: str, findings=(), clients: int = 1):
    return judge_claim(claim, FederatedProtocol(defence=tuple(map(str, parse_all(specs))), clients=clients), findings)


def test_a_claim_is_read_off_a_frameworks_defence():
    claim = claim_of(None, (FLIP,))
    assert claim == PrivacyClaim(10.0, 1e-5)
    found = judged(claim, FLIP)
    assert not found.holds
    assert found.exact_epsilon == pytest.approx(2.1e8, rel=0.1)
    assert "2.14e+08, exactly" in found.sentence or "2.13e+08, exactly" in found.sentence
    assert claim_of(None, ("clip:1", "gaussian:1")) is None
    assert claim_of(None, ("fedml-local-dp:epsilon=2",)) == PrivacyClaim(2.0, 1e-5)


def test_a_claim_of_its_own_comes_first_and_rounds_compose_in_squares():
    claim = claim_of("epsilon=3,delta=1e-6,rounds=16", (FLIP,))
    assert claim == PrivacyClaim(3.0, 1e-6, 16)
    found = judged(claim, "clip:2", "gaussian:8")
    assert found.mu == pytest.approx(4 * 2 / 8)
    assert found.exact_epsilon == pytest.approx(gaussian_epsilon(1.0, 1e-6))
    assert not found.holds
    assert judged(PrivacyClaim(3.0, 1e-6), "clip:2", "gaussian:8").holds


@pytest.mark.parametrize(
    ("specs", "says"),
    [
        (("clip:1",), "no Gaussian noise"),
        (("gaussian:1",), "not clipped before the noise"),
        (("gaussian:1", "clip:1"), "not clipped before the noise"),
        (("flower-client-fixed:noise_multiplier=1,clipping_norm=1,num_sampled_clients=10",), "added by the server"),
    ],
)
def test_where_there_is_no_bound_the_reason_is_told(specs, says):
    found = judged(PrivacyClaim(10.0, 1e-5), *specs)
    assert (found.holds, found.exact_epsilon, found.mu) == (False, None, None)
    assert says in found.sentence


def test_noise_of_every_client_of_a_sum_protects_the_sum():
    alone = judged(PrivacyClaim(1.0, 1e-5), "clip:1", "gaussian:1")
    summed = judged(PrivacyClaim(1.0, 1e-5), "clip:1", "gaussian:1", "secure-aggregation:4", clients=4)
    # The sum of four noises is twice as large as one.
    assert summed.mu == pytest.approx(alone.mu / 2)


def test_a_measurement_above_what_a_claim_allows_contradicts_it():
    finding = SimpleNamespace(
        reference=False, counts=True, retrieval={"pixels": SimpleNamespace(recall_1=recall_interval(12, 12, 85))}
    )
    claim = PrivacyClaim(1.0, 1e-5)
    found = judged(claim, "clip:1", "gaussian:1e-3", findings=[finding]).recall
    assert found.candidates == 85
    assert found.contradicted
    assert found.claimed < 0.03
    assert found.exact == pytest.approx(1.0)


def test_clients_earn_nothing_and_the_note_says_why():
    claim = claim_of("epsilon=3,delta=1e-5,clients=100", ())
    assert claim == PrivacyClaim(3.0, 1e-5, clients=100)
    found = judged(claim, "clip:1", "gaussian:1")
    assert found.exact_epsilon == pytest.approx(gaussian_epsilon(1.0, 1e-5))
    assert not found.credited
    assert "knows who sent" in found.note


def test_sampling_is_credited_by_the_accountant_where_clips_are_clipped_one_by_one(monkeypatch):
    asked = []

    def accountant(mu, sampling, rounds, delta):
        asked.append((mu, sampling, rounds, delta))
        return 0.7

    monkeypatch.setattr("auditor.pipeline.defended.privacy_claim.sampled_epsilon", accountant)
    claim = claim_of("epsilon=1,delta=1e-5,rounds=10,sampling=0.01", ())
    found = judged(claim, "clip:2", "gaussian:4")
    assert found.holds
    assert found.credited
    assert found.exact_epsilon == 0.7
    assert asked == [(0.5, 0.01, 10, 1e-5)]
    assert "with sampling, at most" in found.sentence
    # A whole update of four clips is clipped: one clip may turn it around.
    several = FederatedProtocol(defence=("clip:2.0", "gaussian:4.0"), batch=4)
    whole = judge_claim(claim, several)
    assert not whole.credited
    assert "not clipped one by one" in whole.note
    assert whole.exact_epsilon == pytest.approx(gaussian_epsilon(0.5 * 10**0.5, 1e-5))
    each = FederatedProtocol(defence=("clip:2.0", "per-clip:4", "gaussian:1.0"), batch=4, clients=4)
    assert judge_claim(claim, each).credited
    assert len(asked) == 2


def test_without_the_accountant_sampling_earns_nothing_and_the_remedy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    found = judged(PrivacyClaim(1.0, 1e-5, 10, 0.01), "clip:1", "gaussian:1")
    assert not found.credited
    assert found.exact_epsilon == pytest.approx(gaussian_epsilon(10**0.5, 1e-5))
    assert "pip install 'fl-audit[dp]'" in found.note


def test_the_accountant_lies_between_what_theory_allows():
    pytest.importorskip("dp_accounting")
    whole = sampled_epsilon(1.0, 1.0, 1, 1e-5)
    assert whole == pytest.approx(gaussian_epsilon(1.0, 1e-5), rel=0.01)
    sampled = sampled_epsilon(1.0, 0.01, 100, 1e-5)
    # Amplification by subsampling: delta(log(1 + q (e^eps - 1))) = q delta(eps), for a single round from below.
    assert sampled_epsilon(1.0, 0.01, 1, 1e-5) <= sampled < gaussian_epsilon(10.0, 1e-5) / 10.0


@pytest.mark.parametrize(("mu", "sampling", "rounds"), [(1e4, 0.5, 1), (1.0, 0.9, 10**6), (1.0, 0.01, 10**9)])
def test_where_there_is_next_to_no_noise_the_accountant_is_not_asked(monkeypatch, mu, sampling, rounds):
    unasked = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "dp_accounting", unasked)
    monkeypatch.setitem(sys.modules, "dp_accounting.pld", unasked)
    assert sampled_epsilon(mu, sampling, rounds, 1e-5) == math.inf
    found = judged(PrivacyClaim(1.0, 1e-5, rounds, sampling), "clip:1", f"gaussian:{1 / mu!r}")
    assert not found.credited
    assert "is not asked" in found.note


@pytest.mark.parametrize(
    "written",
    [
        "",
        "epsilon=1",
        "epsilon=a,delta=1e-5",
        "epsilon=1,delta=2",
        "epsilon=0,delta=0.1",
        "epsilon=1,delta=0.1,x=2",
        "epsilon=-1,delta=0.1",
        "epsilon=inf,delta=0.1",
        "epsilon=nan,delta=0.1",
        "epsilon=1,delta=0.1,sampling=0",
        "epsilon=1,delta=0.1,sampling=1.5",
        "epsilon=1,delta=0.1,sampling=nan",
        "epsilon=1,delta=0.1,clients=0",
        "epsilon=1,delta=0.1,rounds=0",
        "epsilon=1,delta=0.1,rounds=1e3",
        "epsilon=1,epsilon=2,delta=0.1",
        "epsilon=1,delta=0.1,rounds=99999999999999",
    ],
)
def test_what_is_no_claim_is_refused_in_one_line(written):
    with pytest.raises(UsageError, match="--dp-claim") as caught:
        claim_of(written, ())
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("specs", "clients", "mu"),
    [
        # A clipped average moves from one end of the ball to the other.
        (("secure-aggregation:4", "clip:1", "gaussian:0.25"), 4, 2.0 / 0.25),
        (("clip:1", "secure-aggregation:4", "gaussian:0.25"), 4, 0.25 / 0.25),
        (("clip:1", "secure-aggregation:4", "clip:0.01", "gaussian:0.25"), 4, 0.02 / 0.25),
        (("clip:1", "clip:5", "gaussian:2"), 1, 1.0 / 2.0),
        # Noise before a clip leaves no zero behind; later noise after a clip is not added to earlier.
        (("gaussian:9", "clip:1", "gaussian:2"), 1, 2.0 / 2.0),
        (("laplace:1", "clip:1", "gaussian:2"), 1, 2.0 / 2.0),
        (("clip:1", "gaussian:2", "clip:1", "gaussian:2"), 1, 1.0 / 2.0),
        (("clip:1", "gaussian:3", "gaussian:4"), 1, 1.0 / 5.0),
        # A client that clips its own noisy update adds that much noise to the sum, and no other's.
        (("clip:1", "gaussian:2", "clip:1", "secure-aggregation:4"), 4, 1.0 / 2.0),
        (("clip:1", "gaussian:2", "secure-aggregation:4", "gaussian:1"), 4, 0.25 / 2.0**0.5),
        (("clip:1", "kmeans:4", "top-k:0.1", "sign", "gaussian:2"), 1, 1.0 / 2.0),
        (("clip:1", "gaussian:2", "qsgd:1", "server:gaussian:9"), 1, 1.0 / 2.0),
    ],
)
def test_the_mechanism_is_read_in_the_order_of_the_defences(specs, clients, mu):
    assert judged(PrivacyClaim(1.0, 1e-5), *specs, clients=clients).mu == pytest.approx(mu)


@pytest.mark.parametrize(
    ("specs", "clients", "culprit"),
    [
        (("clip:1", "quantise:2", "gaussian:9"), 1, "quantise:2"),
        (("clip:1", "qsgd:1", "gaussian:9"), 1, "qsgd:1"),
        (("clip:1", "laplace:1", "top-k:0.1", "gaussian:9"), 1, "top-k:0.1"),
        (("clip:1", "secure-aggregation:4", "sign", "gaussian:9"), 4, "sign"),
    ],
)
def test_what_lengthens_a_change_behind_the_clip_leaves_no_bound(specs, clients, culprit):
    found = judged(PrivacyClaim(10.0, 1e-5), *specs, clients=clients)
    assert (found.holds, found.exact_epsilon) == (False, None)
    assert f"{culprit} may carry a change further" in found.sentence


def test_statistics_that_travel_bare_leave_no_bound():
    protocol = FederatedProtocol(defence=("clip:1", "gaussian:9"), bn="train", send_buffers=True)
    found = judge_claim(PrivacyClaim(10.0, 1e-5), protocol)
    assert not found.holds
    assert "running statistics" in found.sentence


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("specs", [("clip:1", "top-k:0.3"), ("clip:1", "sign"), ("clip:1", "kmeans:3", "float16")])
def test_what_is_said_to_keep_the_norm_does(specs, seed):
    draws = torch.Generator().manual_seed(seed)
    update = {n: 10.0 * torch.randn(s, generator=draws).pow(3) for n, s in (("a", (7, 3)), ("b", (40,)))}
    sent = defend(parse_all(specs), update, draws)
    assert sum(float(g.double().square().sum()) for g in sent.values()) ** 0.5 <= 1.0005
