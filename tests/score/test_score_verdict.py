"""The verdict grid, severity, confidence and the gate, cell by cell."""

import dataclasses

import pytest

from auditor.errors import ExitCode
from auditor.records import Exposure, Fidelity, Unaccounted
from auditor.score import (
    ClipScore,
    Grade,
    bits_interval,
    clearly_above_chance,
    confidence,
    decide,
    gate,
    grade_clip,
    grade_finding,
    recall_interval,
    severity,
    unaccounted_for,
)

GOOD = ClipScore(
    psnr=25.0, psnr_frames=(25.0,) * 4, ssim_frames=(0.8,) * 4, baselines={"grey": 14.0}, gain=11.0,
    motion=30.0, motion_gain=3.0, rank=1, gallery=85,
)  # fmt: skip
EXACT = dataclasses.replace(GOOD, psnr=60.0, gain=46.0)
BLUR = dataclasses.replace(GOOD, psnr=18.0, gain=3.0, ssim_frames=(0.3,) * 4)
BLIND = dataclasses.replace(GOOD, psnr=13.0, gain=-1.0, rank=40, ssim_frames=(0.1,) * 4)
LEAKY = Exposure(psnr=28.0, ceiling=29.0, prior=14.0, sigma=0.03)
TIGHT = Exposure(psnr=14.5, ceiling=15.0, prior=14.0, sigma=0.03)
FAITHFUL = Fidelity(parity_max_error=1e-6, gradient_check=1e-6, double_backward=True, batchnorm="none", batch="dynamic")


@pytest.mark.parametrize(
    ("score", "grade"),
    [(EXACT, Grade.EXACT), (GOOD, Grade.RECOGNISABLE), (BLUR, Grade.NOT_SHOWN), (BLIND, Grade.NOT_SHOWN)],
)
def test_grade_of_one_clip(score, grade):
    assert grade_clip(score) is grade


@pytest.mark.parametrize("change", [{"rank": 2}, {"gain": 0.9}])
def test_a_good_picture_must_beat_blind_guesses_and_be_found(change):
    assert grade_clip(dataclasses.replace(EXACT, **change)) is Grade.NOT_SHOWN


def test_with_a_reference_motion_must_be_beaten_too():
    still = dataclasses.replace(GOOD, motion_gain=0.2)
    assert grade_clip(still) is Grade.RECOGNISABLE
    assert grade_clip(still, with_reference=True) is Grade.NOT_SHOWN


def test_grade_of_a_finding():
    def grade(scores, recall=False, bits=False, reference=False):
        return grade_finding(scores, recall_significant=recall, bits_significant=bits, with_reference=reference)

    assert grade([BLUR, EXACT]) is Grade.EXACT
    assert grade([GOOD, BLUR], recall=True) is Grade.RECOGNISABLE
    assert grade([GOOD, BLUR], recall=False) is Grade.RECOGNISABLE
    weak = dataclasses.replace(GOOD, gain=3.0)
    assert grade([weak, BLUR], recall=False) is Grade.NOT_SHOWN
    assert grade([weak, BLUR], recall=True) is Grade.RECOGNISABLE
    assert grade([BLUR, BLUR], recall=True) is Grade.GIST
    assert grade([BLIND], bits=True) is Grade.GIST
    assert grade([weak, BLIND], recall=True, reference=True) is Grade.NOT_SHOWN
    assert grade([GOOD, GOOD, BLIND], reference=True) is Grade.RECOGNISABLE
    assert grade([weak, weak, BLIND], reference=True) is Grade.RECOGNISABLE
    assert grade([weak], reference=True) is Grade.NOT_SHOWN


def test_one_lucky_hit_of_three_is_not_above_chance():
    assert not clearly_above_chance(recall_interval(1, 3, 85))
    assert clearly_above_chance(recall_interval(2, 3, 85))
    assert not clearly_above_chance(bits_interval(71, 120))
    assert clearly_above_chance(bits_interval(80, 120))
    assert not clearly_above_chance(None)


@pytest.mark.parametrize(
    ("grade", "failed", "exposure", "cut", "attacked", "word"),
    [
        (Grade.EXACT, (), LEAKY, (), True, "FAIL"),
        (Grade.RECOGNISABLE, (), LEAKY, ("x",), True, "FAIL"),
        (Grade.EXACT, ("positive",), LEAKY, (), True, "INCONCLUSIVE"),
        (Grade.GIST, (), TIGHT, ("x",), True, "WARN"),
        (Grade.GIST, (), LEAKY, ("x",), True, "INCONCLUSIVE"),
        (Grade.GIST, (), LEAKY, (), True, "WARN"),
        (Grade.NOT_SHOWN, (), LEAKY, ("x",), True, "INCONCLUSIVE"),
        (Grade.NOT_SHOWN, (), TIGHT, ("x",), True, "PASS"),
        (Grade.NOT_SHOWN, (), TIGHT, (), False, "INCONCLUSIVE"),
        (Grade.NOT_SHOWN, (), None, ("x",), True, "INCONCLUSIVE"),
        (Grade.NOT_SHOWN, (), TIGHT, (), True, "PASS"),
    ],
)
def test_verdict(grade, failed, exposure, cut, attacked, word):
    made = decide(grade, failed_controls=failed, exposure=exposure, out_of_budget=cut, attacked=attacked)
    assert made.word == word
    assert made.reasons
    assert "safe" not in " ".join((made.sentence, *made.reasons)).lower().split()


@pytest.mark.parametrize(
    ("word", "score", "fail_on", "code"),
    [
        ("FAIL", 8.0, "high", ExitCode.GATE_FAILED),
        ("FAIL", 8.0, "critical", ExitCode.GATE_SATISFIED),
        ("FAIL", 8.0, "never", ExitCode.GATE_SATISFIED),
        ("WARN", 3.0, "high", ExitCode.GATE_SATISFIED),
        ("WARN", 3.0, "low", ExitCode.GATE_FAILED),
        ("PASS", 0.0, "low", ExitCode.GATE_SATISFIED),
        ("INCONCLUSIVE", 0.0, "never", ExitCode.INCONCLUSIVE),
    ],
)
def test_gate(word, score, fail_on, code):
    from auditor.results.severity import band

    satisfied, got = gate(word, score, band(score), fail_on)
    assert got is code
    assert satisfied is (code is ExitCode.GATE_SATISFIED)


def test_severity_follows_its_printed_formula_and_its_bands():
    worst = severity(Grade.EXACT, psnr=80.0, reach=1.0)
    assert worst.score == 10.0
    assert worst.band == "critical"
    for grade, low in ((Grade.RECOGNISABLE, "high"), (Grade.GIST, "low"), (Grade.NOT_SHOWN, "none")):
        made = severity(grade, psnr=20.0, reach=0.4)
        assert made.score == round(10 * made.fidelity * made.preconditions * (0.9 + 0.1 * made.reach), 1)
        assert made.band == low
        assert f"G:{grade.name}" in made.vector
    known = severity(Grade.EXACT, psnr=80.0, reach=1.0, knows="reference")
    assert known.score < worst.score
    assert (
        severity(Grade.GIST, psnr=0.0, reach=1.0, label_only=True).score
        < severity(Grade.GIST, psnr=0.0, reach=1.0).score
    )


def test_confidence_falls_with_every_doubt():
    def level(**change):
        given = {"failed_controls": (), "probes": 7, "seeds": 3, "out_of_budget": (), "exact": False} | change
        fidelity = given.pop("fidelity", FAITHFUL)
        return confidence(fidelity, **given)

    assert level().level == "high"
    assert level(seeds=1).level == "medium"
    assert level(seeds=1, probes=3, out_of_budget=("a",)).level == "low"
    assert level(seeds=1, probes=3, out_of_budget=("a",), exact=True).level == "high"
    assert level(failed_controls=("x",)).level == "low"
    folded = level(fidelity=dataclasses.replace(FAITHFUL, upper_bound=True))
    assert folded.level == "medium"
    assert "upper bound" in folded.reasons[0]
    unsure = level(fidelity=dataclasses.replace(FAITHFUL, batchnorm="maybe folded"))
    assert (unsure.level, "does not tell" in unsure.reasons[0]) == ("medium", True)
    unchecked = dataclasses.replace(FAITHFUL, gradient_check=None, missing=("Gradients were not compared.",))
    assert level(fidelity=unchecked).reasons == ("Gradients were not compared",)
    silent = dataclasses.replace(FAITHFUL, gradient_check=None)
    assert level(fidelity=silent).reasons == ("The gradient was not checked against finite differences",)
    alone = dataclasses.replace(FAITHFUL, parity_max_error=None, missing=("Outputs were not compared.",))
    assert level(fidelity=alone).reasons == ("Outputs were not compared",)
    cut = dataclasses.replace(FAITHFUL, parity_max_error=None, missing=("A part runs under no_grad.", "It rounds."))
    assert level(fidelity=cut).reasons == ("A part runs under no_grad (and 1 more)",)
    assert level(fidelity=dataclasses.replace(FAITHFUL, double_backward=False)).level == "medium"


def test_what_is_hidden_from_attacks_forbids_pass_and_warn_but_not_fail():
    def word(grade):
        return decide(
            grade, failed_controls=(), exposure=TIGHT, out_of_budget=(), attacked=True, hidden=("nothing is seen",)
        ).word

    assert [word(grade) for grade in Grade] == ["INCONCLUSIVE", "INCONCLUSIVE", "FAIL", "FAIL"]


@pytest.mark.parametrize(
    ("counted", "level", "forbids"),
    [
        (None, "high", False),
        (Unaccounted(of_numbers=1000), "high", False),
        (Unaccounted(numbers=900, fixed=900, of_numbers=1000), "high", False),
        (Unaccounted(numbers=10, of_numbers=1000), "medium", False),
        (Unaccounted(numbers=25404, fixed=4, of_numbers=25700), "medium", True),
        (Unaccounted(of_numbers=1000, assumed=("pixels from 0 to 255",)), "medium", False),
    ],
)
def test_what_is_not_accounted_for_lowers_confidence_and_can_forbid(counted, level, forbids):
    fidelity = dataclasses.replace(FAITHFUL, unaccounted=counted)
    found = confidence(fidelity, failed_controls=(), probes=5, seeds=3, out_of_budget=(), exact=False)
    assert found.level == level
    assert bool(unaccounted_for(fidelity)) is forbids


def test_a_blind_audit_is_of_low_confidence_and_forbids():
    fidelity = dataclasses.replace(FAITHFUL, blind=("Forward rounds.",))
    found = confidence(fidelity, failed_controls=(), probes=5, seeds=3, out_of_budget=(), exact=False)
    assert (found.level, found.reasons) == ("low", ("Forward rounds.",))
    assert len(unaccounted_for(fidelity)) == 1
