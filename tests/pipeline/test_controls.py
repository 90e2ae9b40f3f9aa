"""Positive controls try the attacks that decide an audit, as the preset runs them, and notice when one is broken."""

import dataclasses

import pytest
import torch
from short_scans import controls_remembered, short

from auditor.attack import PRESETS
from auditor.attack.features.feature_inversion import FeatureInversion
from auditor.attack.matching.least_squares_matching import LeastSquaresMatching
from auditor.attack.recursion.layer_recursion import LayerRecursion
from auditor.pipeline.controls import CLOSED_FORM_DB, OPTIMISER_GAIN_DB, failed, not_run, positive_controls
from auditor.records import Ceiling, Outcome, Reconstruction

CPU = torch.device("cpu")
DECISIVE = {
    "layer-recursion": LayerRecursion,
    "least-squares-matching": LeastSquaresMatching,
    "feature-inversion": FeatureInversion,
}


def controls(preset, seconds=600.0):
    return {c.attack: c for c in positive_controls(CPU, preset.attacks, seconds, lambda fraction: None)}


def grey_noise(attack, view, budget, seed):
    """What the planted defect returns: nothing of the clip, in good order."""
    shape = (view.update.batch, *view.knowledge.clip_shape)
    clips = 0.5 + 0.01 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return Reconstruction(
        attack=attack.name, clips=clips, labels=view.knowledge.labels or (0,), outcome=Outcome.CONVERGED, objective=0.0
    )


def level(control):
    return float(control.measured.split(" dB")[0])


@pytest.mark.parametrize(
    "name", [n if n == "fast" else pytest.param(n, marks=pytest.mark.slow) for n in sorted(PRESETS)]
)
def test_every_search_that_decides_finds_its_planted_leak(name):
    made = controls(PRESETS[name])
    assert set(made) == {"linear-input", "spear", "gradient-matching", *DECISIVE}
    assert all(c.passed for c in made.values())
    for attack in ("gradient-matching", *DECISIVE):
        # Grey scores 15.6 dB: two times the gain that is asked for leaves room for other machines' rounding.
        assert level(made[attack]) > 15.6 + 1.5 * OPTIMISER_GAIN_DB
    assert level(made["spear"]) > CLOSED_FORM_DB


@pytest.mark.parametrize("name", sorted(DECISIVE))
@pytest.mark.parametrize("how", ["noise", "raises"])
def test_a_broken_search_fails_its_control_alone(monkeypatch, name, how):
    def broken(attack, view, budget, seed):
        raise RuntimeError("a defect")

    monkeypatch.setattr(DECISIVE[name], "invert", grey_noise if how == "noise" else broken)
    with controls_remembered():
        made = tuple(controls(short(attacks=tuple(DECISIVE))).values())
    assert [c.attack for c in made if c.passed is False] == [name]
    assert len(failed(made)) == 1


def test_searches_that_the_budget_does_not_hold_are_told_and_did_not_fail():
    made = tuple(controls(PRESETS["fast"], seconds=0.0).values())
    assert failed(made) == ()
    assert len(not_run(made)) == 1 + len(DECISIVE)
    assert all("do not hold" in str(c.measured) for c in made if c.passed is None)


def test_searches_that_would_end_too_late_are_told_and_did_not_fail():
    ceiling = Ceiling(0.0)
    made = positive_controls(CPU, PRESETS["fast"].attacks, 600.0, lambda fraction: None, ceiling)
    assert failed(made) == ()
    assert len(not_run(made)) == len(ceiling.cuts) == 1 + len(DECISIVE)
    assert all("left out whole" in str(c.measured) for c in made if c.passed is None)


def test_a_search_that_the_preset_leaves_out_is_not_tried():
    some = dataclasses.replace(PRESETS["fast"], attacks=())
    assert set(controls(some)) == {"linear-input", "spear", "gradient-matching"}
