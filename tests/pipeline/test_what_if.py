"""A change of the protocol is recommended only where the audit's strongest attacks met it."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from short_scans import results_of, short

from auditor.attack import BY_NAME, Attack
from auditor.exposure import Exposed
from auditor.options import ScanOptions
from auditor.pipeline import what_if
from auditor.pipeline.documents import wording
from auditor.pipeline.progress import Silent
from auditor.pipeline.what_if import Variant, strongest
from auditor.records import Exposure, FederatedProtocol, Outcome, Reconstruction, Skipped
from auditor.score import Grade

CLOSED, SEARCH = BY_NAME["linear-input"], BY_NAME["least-squares-matching"]
RECURSION = BY_NAME["layer-recursion"]
MODELS = f"{__file__.rpartition('/')[0]}/../models_for_scans.py"


def finding(attack: Attack, grade: Grade, counts: bool = True, reference: bool = False):
    return SimpleNamespace(attack=attack, grade=grade, counts=counts, reference=reference)


def ran(steps: int, outcome: Outcome = Outcome.CONVERGED) -> Reconstruction:
    return Reconstruction(
        attack="a", clips=torch.zeros(1, 1, 1, 1, 1), labels=(0,), outcome=outcome, objective=0.0, steps=steps
    )


def no(because: str = "not-applicable") -> Skipped:
    return Skipped(stage="invert", what="a", because=because, reason="4 clips share the update")


def compared(attacks, met, base) -> str:
    return what_if._not_compared(
        attacks,
        {a.name: m for a, m in zip(attacks, met, strict=True)},
        {a.name: b for a, b in zip(attacks, base, strict=True) if b is not None},
    )


def test_variants_meet_the_best_attack_and_the_best_search():
    found = (finding(CLOSED, Grade.EXACT), finding(SEARCH, Grade.GIST), finding(RECURSION, Grade.NOT_SHOWN))
    assert strongest(found) == (CLOSED, SEARCH)
    # What does not count, or needs frames of the scene, is not the strongest.
    found = (finding(RECURSION, Grade.EXACT, reference=True), finding(SEARCH, Grade.NOT_SHOWN))
    assert strongest(found) == (SEARCH,)
    assert strongest(()) == ()


def test_a_change_that_an_attack_did_not_meet_is_not_compared():
    assert compared((SEARCH,), (ran(100),), (ran(100),)) == ""
    assert "4 clips share the update" in compared((RECURSION, SEARCH), (no(), ran(100)), (ran(50), ran(100)))
    assert "no search" in compared((CLOSED,), (no(),), (ran(1),))
    assert "no search" in compared((), (), ())
    # That equations do not hold is what a change may bring; that a solver broke is not.
    assert compared((CLOSED, SEARCH), (no(), ran(9)), (ran(1), ran(9))) == ""
    assert compared((CLOSED, SEARCH), (no("failed"), ran(9)), (ran(1), ran(9)))


def test_a_search_that_was_cut_shorter_than_on_the_audited_protocol_compares_with_nothing():
    cut = ran(40, Outcome.OUT_OF_BUDGET)
    assert "as many steps" in compared((SEARCH,), (cut,), (ran(100),))
    assert compared((SEARCH,), (cut,), (ran(40, Outcome.OUT_OF_BUDGET),)) == ""
    assert compared((SEARCH,), (ran(40),), (ran(100),)) == ""


@pytest.mark.parametrize("why", ["", "layer-recursion did not run on it"])
def test_only_what_was_compared_is_recommended(why):
    base = Variant(name="as audited", change="c", action="", baseline=True, score=SimpleNamespace(gain=9.0))
    better = Variant(name="b", change="c", action="Do it.", baseline=False, score=SimpleNamespace(gain=1.0), attack="a")
    advice = wording._measured((base, replace(better, not_compared=why)))
    assert [a["text"] for a in advice] == ([] if why else ["Do it."])


def test_nothing_is_advised_whose_effect_nobody_measured():
    context = SimpleNamespace(target=SimpleNamespace(fidelity=SimpleNamespace(upper_bound=False)))
    base = Variant(name="as audited", change="c", action="", baseline=True, score=SimpleNamespace(gain=9.0))
    assert wording.actions(context, (base,), ()) == []
    (measure,) = wording.actions(context, (), ())
    assert "--what-if" in measure["text"]


def test_exposure_of_variants_is_by_as_many_products_as_the_audits_own(monkeypatch):
    told = Exposure(psnr=24.0, ceiling=24.0, prior=14.0, sigma=0.03, determined=0.9, at_most=28.0)
    own, other = (
        Exposed(all=told, layers={}, modes=1, coverage=1.0, seconds=1.0, products=products) for products in (7, 5)
    )
    asked: list[int] = []
    monkeypatch.setattr(what_if, "too_large_to_expose", lambda *_: None)
    monkeypatch.setattr(what_if, "expose_update", lambda *given: asked.append(given[-1]) or other)
    context = SimpleNamespace(device=torch.device("cpu"))
    base = what_if._Plan(name="as audited", change="c", protocol=FederatedProtocol(), baseline=True)
    changed = replace(base, name="batch 4", baseline=False)

    def exposed(plan, audits_own):
        return what_if._exposed(plan, context, None, 0.05, 1.0, audits_own, Silent())

    assert exposed(base, own) is own
    assert not asked
    assert exposed(changed, own) is other
    assert asked == [7]
    # Rows without the audited one to compare with say nothing.
    assert exposed(base, None) is None
    assert exposed(changed, None) is None
    assert asked == [7]


@pytest.mark.slow
def test_a_batch_that_the_recursion_does_not_meet_is_shown_and_not_recommended(monkeypatch):
    recursion = type(BY_NAME["residual-recursion"])

    @dataclass(frozen=True, kw_only=True)
    class OneClip(recursion):
        def obstacle(self, view):
            return super().obstacle(view) or ("more than one clip" if view.update.batch > 1 else None)

    # What variants expose says nothing here, and would take half a minute.
    left_out = Skipped(stage="expose", what="mode exposure", because="out-of-budget", reason="not wanted")
    monkeypatch.setattr(what_if, "too_large_to_expose", lambda *_: left_out)
    monkeypatch.setattr(what_if, "MOST_STEPS", 40)  # of the plain search, which is not looked at either
    preset = short(steps=30, attacks=("residual-recursion",))
    attacks = tuple(OneClip() if a.name == "residual-recursion" else a for a in preset.attacks)
    options = ScanOptions(model=f"{MODELS}:residual", input_shape=(3, 4, 16, 16), preset="fast", what_if=True)
    made = results_of(options, replace(preset, attacks=attacks), 0)
    rows = {v["name"]: v for v in made["what_if"]}
    assert rows["as audited"]["attack"] == "residual-recursion"
    assert rows["as audited"]["psnr"] > 24.0
    assert "did not run on it" in rows["batch 4"]["not_compared"]
    assert not any("4 clips" in a["text"] for a in made["actions"])
