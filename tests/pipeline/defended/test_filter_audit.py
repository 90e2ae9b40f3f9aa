"""Filters as black boxes: what their outputs prove, and what they are not."""

import math

import pytest

from auditor.cli.filter_text import to_text
from auditor.errors import UsageError
from auditor.filter_options import FilterOptions
from auditor.pipeline.defended.filter_audit import audit_filter
from auditor.results.encode import document
from auditor.score import gaussian_epsilon

FILTERS = """
import numpy as np

SIGMA, CLIP = 0.5, 1.0


def length(update):
    return np.sqrt(sum((g ** 2).sum() for g in update.values()))


def gaussian(update):
    factor = min(1.0, CLIP / length(update))
    return {n: factor * g + np.random.normal(0, SIGMA, g.shape) for n, g in update.items()}


def unclipped(update):
    return {n: g + np.random.normal(0, SIGMA, g.shape) for n, g in update.items()}


def clipping(update):
    return {n: min(1.0, CLIP / length(update)) * g for n, g in update.items()}


def vanishing(update):
    # The scale of the noise is divided by the same number again at every tensor.
    sigma, out = SIGMA, {}
    for n, g in update.items():
        out[n] = min(1.0, CLIP / length(update)) * g + np.random.normal(0, sigma, g.shape)
        sigma /= 1000.0
    return out


def broken(update):
    raise KeyError("conv")


def reshaped(update):
    return {n: g.ravel() for n, g in update.items()}


def nothing(update):
    return {n: g * np.nan for n, g in update.items()}


def leaving(update):
    raise SystemExit(0)


def words(update):
    return {n: "x" for n in update}


def imaginary(update):
    return {n: g + 1j for n, g in update.items()}


def aside(update):
    return {**gaussian(update), "copy": update["conv.weight"]}


def zeros(update):
    return {n: 0 * g for n, g in update.items()}


CALLS = []


def fading(update):
    CALLS.append(1)
    noise = SIGMA if len(CALLS) < 100 else SIGMA / 1000.0
    return {n: min(1.0, CLIP / length(update)) * g + np.random.normal(0, noise, g.shape) for n, g in update.items()}
"""


@pytest.fixture
def examined(tmp_path):
    (tmp_path / "filters.py").write_text(FILTERS, encoding="utf-8")

    def call(name, **more):
        options = FilterOptions(**{"file": f"{tmp_path / 'filters.py'}:{name}", "samples": 1500, **more})
        return document(audit_filter(options))

    return call


def test_the_gaussian_mechanism_is_bounded_from_below_and_has_no_fault(examined):
    found, true = examined("gaussian", epsilon=8.0), gaussian_epsilon(1.0 / 0.5, 1e-5)
    assert 0.0 < found["proven"] <= true
    assert 0.6 * true < found["if_normal"] <= true
    assert found["faults"] == []
    assert not found["contradicted"]
    assert all(t["noise"] == pytest.approx(0.5, rel=0.15) for t in found["tensors"])


def test_a_claim_below_the_bound_is_contradicted(examined):
    found = examined("gaussian", epsilon=1.0)
    assert found["contradicted"]
    assert "the claimed epsilon 1 is contradicted" in to_text(found)


def test_a_filter_that_does_not_clip_is_named(examined):
    found = examined("unclipped", samples=300)
    assert len(found["faults"]) == 1
    assert "it does not clip" in found["faults"][0]


def test_a_filter_without_noise_has_no_epsilon(examined):
    found = examined("clipping", samples=200, epsilon=1e9)
    assert found["unbounded"]
    assert found["proven"] is None
    assert found["contradicted"]
    assert "deterministic" in found["faults"][0]
    assert "epsilon is unbounded" in to_text(found)


def test_noise_that_vanishes_after_the_first_tensor_is_found(examined):
    found = examined("vanishing", samples=400)
    assert any("noise is added to conv.weight and hardly any to conv.bias" in fault for fault in found["faults"])
    # Three tensors travel almost bare: four hundred runs prove what so many can, and normal ones far more.
    assert found["if_normal"] > 1e4
    assert found["proven"] > math.log(400 / 2 * 0.9 / 8)


def test_noise_that_fades_from_run_to_run_is_found(examined):
    found = examined("fading", samples=300)
    assert any("fades from run to run on conv.weight" in fault for fault in found["faults"])


def test_a_filter_that_sends_nothing_proves_nothing(examined):
    found = examined("zeros", samples=100, epsilon=0.1)
    assert (found["proven"], found["if_normal"], found["contradicted"]) == (0.0, None, False)


@pytest.mark.parametrize("norm", [1e-300, 1e38])
def test_a_canary_that_float32_does_not_hold_is_refused(examined, norm):
    with pytest.raises(UsageError, match="float32"):
        examined("gaussian", norm=norm)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("broken", "raised KeyError"),
        ("reshaped", "changed the shape"),
        ("nothing", "not finite"),
        ("gone", "defines no"),
        ("leaving", "raised SystemExit"),
        ("words", "returned <U1 for conv.weight"),
        ("imaginary", "returned complex64"),
        ("aside", "returned copy, which it was not given"),
    ],
)
def test_what_is_no_filter_is_refused_in_one_line(examined, name, says):
    with pytest.raises(UsageError, match=says) as caught:
        examined(name)
    assert "\n" not in str(caught.value)


def test_the_same_seed_gives_the_same_bound(examined):
    assert examined("gaussian", samples=200) == examined("gaussian", samples=200)
