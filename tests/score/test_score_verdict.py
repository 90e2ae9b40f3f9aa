"""The verdict grid, severity, confidence and the gate, cell by cell."""

import dataclasses

import pytest

from auditor.errors import ExitCode
from auditor.records import Exposure, Fidelity, Unaccounted
from auditor.score import (
    ClipScore,
    Course,
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
from auditor.score.verdict import exposed

GOOD = ClipScore(
    psnr=25.0, psnr_frames=(25.0,) * 4, ssim_frames=(0.8,) * 4, baselines={"grey": 14.0}, gain=11.0,
    motion=30.0, motion_gain=3.0, rank=1, gallery=85, content=0.9, rank_scenes=1,
)  # fmt: skip
EXACT = dataclasses.replace(GOOD, psnr=60.0, gain=46.0)
BLUR = dataclasses.replace(GOOD, psnr=18.0, gain=3.0, ssim_frames=(0.3,) * 4, content=0.4)
BLIND = dataclasses.replace(GOOD, psnr=13.0, gain=-1.0, rank=40, rank_scenes=35, ssim_frames=(0.1,) * 4, content=0.1)
LEAKY = Exposure(psnr=28.0, ceiling=29.0, prior=14.0, sigma=0.03, cap=30.0, determined=0.99)
TIGHT = Exposure(psnr=14.5, ceiling=15.0, prior=14.0, sigma=0.03, cap=30.0, determined=0.1)
# Few modes of a large clip: determined all but whole, 2.1 dB over a blind guess; and hardly at all.
LEAKY_BELOW_ITS_CAP = Exposure(psnr=15.3, ceiling=15.6, prior=13.2, sigma=0.03, cap=15.6, determined=0.9)
CAPPED = Exposure(psnr=14.1, ceiling=14.9, prior=14.0, sigma=0.03, cap=14.9, determined=0.1)
# As today: between two sides. The last one says neither.
BETWEEN = Exposure(psnr=18.0, ceiling=19.0, prior=14.0, sigma=0.03, determined=0.6, at_most=40.0)
BELOW = Exposure(psnr=14.5, ceiling=15.0, prior=14.0, sigma=0.03, determined=0.1, at_most=16.9)
OPEN = Exposure(psnr=14.5, ceiling=15.0, prior=14.0, sigma=0.03, determined=0.1, at_most=17.1)
UNTOLD = Exposure(psnr=14.5, ceiling=15.0, prior=14.0, sigma=0.03)
QUIET = Course(grade=Grade.NOT_SHOWN, exposure=TIGHT, clips=3, tested_clips=3)
FAITHFUL = Fidelity(parity_max_error=1e-6, gradient_check=1e-6, double_backward=True, batchnorm="none", batch="dynamic")


@pytest.mark.parametrize(
    ("score", "grade"),
    [(EXACT, Grade.EXACT), (GOOD, Grade.RECOGNISABLE), (BLUR, Grade.NOT_SHOWN), (BLIND, Grade.NOT_SHOWN)],
)
def test_grade_of_one_clip(score, grade):
    assert grade_clip(score) is grade


@pytest.mark.parametrize("change", [{"rank_scenes": 2}, {"rank": 2, "rank_scenes": None}, {"gain": 0.9}])
def test_a_good_picture_must_beat_blind_guesses_and_point_to_its_scene(change):
    assert grade_clip(dataclasses.replace(EXACT, **change)) is Grade.NOT_SHOWN


def test_a_visible_person_is_one_whichever_moment_of_the_scene_the_gallery_prefers():
    assert grade_clip(dataclasses.replace(GOOD, rank=3)) is Grade.RECOGNISABLE
    assert grade_clip(dataclasses.replace(EXACT, rank=3)) is Grade.EXACT


@pytest.mark.parametrize("content", [None, -0.2, 0.72])
def test_a_scene_without_its_persons_is_not_recognisable_however_close_it_is(content):
    scene = dataclasses.replace(GOOD, psnr=29.0, ssim_frames=(0.9,) * 4, content=content)
    assert grade_clip(scene) is Grade.NOT_SHOWN
    assert grade_finding([scene] * 5, recall_significant=True, bits_significant=False) is Grade.GIST


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
    ("change", "passed", "weak", "said"),
    [
        ({}, "PASS", "WARN", ""),
        # A reading by one attack out of many stands, when others were cut: exposure tells that little is to be found.
        ({"unfinished": ("x",)}, "PASS", "WARN", ""),
        ({"failed_controls": ("positive",)}, "INCONCLUSIVE", "INCONCLUSIVE", "control failed: positive"),
        ({"open_questions": ("a control could not be run",)}, "INCONCLUSIVE", "INCONCLUSIVE", "could not be run"),
        ({"exposure": None}, "INCONCLUSIVE", "INCONCLUSIVE", "could not tell"),
        ({"exposure": UNTOLD}, "INCONCLUSIVE", "INCONCLUSIVE", "could not tell"),
        ({"exposure": CAPPED}, "INCONCLUSIVE", "INCONCLUSIVE", "its modes end at 14.9 dB"),
        ({"exposure": OPEN}, "INCONCLUSIVE", "INCONCLUSIVE", "its prediction lies between 14.5 and 17.1 dB"),
        ({"exposure": BETWEEN}, "INCONCLUSIVE", "INCONCLUSIVE", "predicted 18.0 dB of at most 40.0 dB"),
        ({"exposure": BELOW}, "PASS", "WARN", ""),
        ({"exposure": LEAKY}, "INCONCLUSIVE", "INCONCLUSIVE", "exposes a clip"),
        ({"exposure": LEAKY_BELOW_ITS_CAP}, "INCONCLUSIVE", "INCONCLUSIVE", "of at most 15.6 dB"),
        ({"clips": 0, "tested_clips": 0}, "INCONCLUSIVE", "INCONCLUSIVE", "no attack on a clip"),
        ({"clips": 1, "tested_clips": 1}, "INCONCLUSIVE", "INCONCLUSIVE", "one clip"),
        ({"clips": 3, "tested_clips": 2}, "INCONCLUSIVE", "INCONCLUSIVE", "on 2 of 3 clips"),
        ({"clips": 3, "tested_clips": 0}, "INCONCLUSIVE", "INCONCLUSIVE", "on 0 of 3 clips"),
        ({"crashed": ("spear",)}, "INCONCLUSIVE", "INCONCLUSIVE", "an attack broke: spear"),
        ({"search_failed": "the optimiser failed"}, "INCONCLUSIVE", "INCONCLUSIVE", "the optimiser failed"),
    ],
)
def test_a_verdict_below_fail_is_earned(change, passed, weak, said):
    for grade, word in ((Grade.NOT_SHOWN, passed), (Grade.GIST, weak)):
        made = decide(dataclasses.replace(QUIET, grade=grade, **change))
        assert made.word == word
        assert said in " ".join(made.reasons)
        assert made.reasons
        assert "safe" not in " ".join((made.sentence, *made.reasons)).lower().split()


@pytest.mark.parametrize("grade", [Grade.RECOGNISABLE, Grade.EXACT])
def test_what_was_demonstrated_fails_whatever_else_went_wrong_but_a_control(grade):
    troubled = Course(
        grade=grade, open_questions=("x",), crashed=("y",), unfinished=("z",), search_failed="s", exposure=None
    )
    assert decide(troubled).word == "FAIL"
    assert decide(dataclasses.replace(troubled, failed_controls=("positive",))).word == "INCONCLUSIVE"


def test_few_modes_can_say_exposed_but_not_unexposed():
    assert exposed(LEAKY_BELOW_ITS_CAP) is True
    assert exposed(CAPPED) is None
    assert exposed(TIGHT) is False
    assert exposed(UNTOLD) is None
    assert exposed(None) is None


def test_both_sides_have_to_lie_below_half_to_say_unexposed():
    assert exposed(BETWEEN) is True
    assert exposed(BELOW) is False
    assert exposed(OPEN) is None


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


LEVELS = [(Grade.EXACT, "critical"), (Grade.RECOGNISABLE, "high"), (Grade.GIST, "medium"), (Grade.NOT_SHOWN, "none")]


@pytest.mark.parametrize(("grade", "level"), LEVELS)
@pytest.mark.parametrize("knows", ["none", "labels", "reference"])
@pytest.mark.parametrize("reached", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("psnr", [0.0, 20.0, 90.0])
def test_the_band_of_severity_is_that_of_the_grade(grade, level, knows, reached, psnr):
    made = severity(grade, psnr=psnr, reach=reached, knows=knows)
    assert made.band == level
    assert f"G:{grade.name}" in made.vector
    alone = severity(grade, psnr=psnr, reach=reached, knows=knows, label_only=True)
    assert alone.band == ("low" if grade is Grade.GIST else level)


def test_severity_follows_its_printed_formula():
    worst = severity(Grade.EXACT, psnr=80.0, reach=1.0)
    assert worst.score == 10.0
    for grade, bottom, top in ((Grade.RECOGNISABLE, 7.0, 8.9), (Grade.GIST, 4.0, 6.9)):
        made = severity(grade, psnr=20.0, reach=0.4, knows="labels")
        assert made.score == round(bottom + (top - bottom) * (made.fidelity + made.preconditions + made.reach) / 3, 1)
    assert severity(Grade.RECOGNISABLE, psnr=25.0, reach=0.0).fidelity == 0.5
    known = severity(Grade.EXACT, psnr=80.0, reach=1.0, knows="reference")
    assert known.score < severity(Grade.EXACT, psnr=80.0, reach=1.0, knows="labels").score < worst.score


def test_each_level_of_the_gate_stops_what_its_name_says():
    cases = [severity(grade, psnr=20.0, reach=0.0, knows="reference") for grade, _ in LEVELS]
    cases.insert(3, severity(Grade.GIST, psnr=0.0, reach=1.0, label_only=True))
    for stopped, level in enumerate(("critical", "high", "medium", "low"), start=1):
        assert [gate("FAIL", c.score, c.band, level)[0] for c in cases] == [False] * stopped + [True] * (5 - stopped)


def test_confidence_falls_with_every_doubt():
    def level(**change):
        given = {
            "failed_controls": (),
            "untested_controls": (),
            "probes": 7,
            "seeds": 3,
            "out_of_budget": (),
            "exact": False,
        } | change
        fidelity = given.pop("fidelity", FAITHFUL)
        return confidence(fidelity, **given)

    assert level().level == "high"
    assert level(seeds=1).level == "medium"
    assert level(seeds=1, probes=3, out_of_budget=("a",)).level == "low"
    assert level(seeds=1, probes=3, out_of_budget=("a",), exact=True).level == "high"
    assert level(failed_controls=("x",)).level == "low"
    assert level(untested_controls=("x",)).level == "medium"
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
        return decide(dataclasses.replace(QUIET, grade=grade, open_questions=("nothing is seen",))).word

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
    found = confidence(
        fidelity, failed_controls=(), untested_controls=(), probes=5, seeds=3, out_of_budget=(), exact=False
    )
    assert found.level == level
    assert bool(unaccounted_for(fidelity)) is forbids


def test_a_blind_audit_is_of_low_confidence_and_forbids():
    fidelity = dataclasses.replace(FAITHFUL, blind=("Forward rounds.",))
    found = confidence(
        fidelity, failed_controls=(), untested_controls=(), probes=5, seeds=3, out_of_budget=(), exact=False
    )
    assert (found.level, found.reasons) == ("low", ("Forward rounds.",))
    assert len(unaccounted_for(fidelity)) == 1
