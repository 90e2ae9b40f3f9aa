"""The what-if's audited row is the audit's own finding, and weaker reruns are not compared with it."""

from types import SimpleNamespace

from auditor.pipeline.documents import baseline_variant
from auditor.pipeline.documents.baseline_variant import with_own_finding
from auditor.pipeline.what_if import Variant
from auditor.score import Grade


def variants(gain: float, grade: Grade) -> tuple[Variant, Variant]:
    score = SimpleNamespace(gain=gain)
    base = Variant(name="as audited", change="c", action="", baseline=True, attack="search", score=score, grade=grade)
    return base, Variant(name="batch 4", change="c", action="Do it.", baseline=False, score=SimpleNamespace(gain=1.0))


def finding(gain: float, grade: Grade, counts: bool = True, kind: str = "clip", probe: str = "park_walker"):
    observed = SimpleNamespace(probe=SimpleNamespace(name=probe, kind=kind))
    result = SimpleNamespace(
        observed=observed, score=SimpleNamespace(gain=gain), reconstruction=SimpleNamespace(steps=9)
    )
    attack = SimpleNamespace(name="recursion")
    return SimpleNamespace(attack=attack, reference=False, grade=grade, counts=counts, results=(result,))


def test_the_audits_own_result_stands_in_the_row_and_weaker_ones_are_not_compared(monkeypatch) -> None:
    monkeypatch.setattr(baseline_variant, "grade_clip", lambda score: Grade.EXACT)
    row, other = with_own_finding(variants(3.0, Grade.GIST), [finding(25.0, Grade.EXACT)], "park_walker")
    assert (row.attack, row.score.gain, row.grade, row.steps) == ("recursion", 25.0, Grade.EXACT, 9)
    assert "+25.0 dB on this clip by recursion" in other.not_compared


def test_an_equal_effort_stays_comparable(monkeypatch) -> None:
    monkeypatch.setattr(baseline_variant, "grade_clip", lambda score: Grade.EXACT)
    row, other = with_own_finding(variants(24.6, Grade.EXACT), [finding(25.0, Grade.EXACT)], "park_walker")
    assert row.score.gain == 25.0
    assert other.not_compared == ""


def test_a_grade_that_no_controlled_finding_has_is_not_the_audits(monkeypatch) -> None:
    monkeypatch.setattr(baseline_variant, "grade_clip", lambda score: Grade.EXACT)
    uncontrolled = finding(25.0, Grade.EXACT, counts=False)
    row, other = with_own_finding(variants(12.0, Grade.RECOGNISABLE), [uncontrolled], "park_walker")
    assert (row.grade, row.score.gain) == (Grade.NOT_SHOWN, 12.0)
    assert other.not_compared == ""
    row, _ = with_own_finding(variants(12.0, Grade.GIST), [finding(50.0, Grade.GIST, kind="canary")], "park_walker")
    assert (row.grade, row.score.gain) == (Grade.GIST, 12.0)


def test_a_better_result_on_another_clip_lends_its_grade_and_not_its_gain(monkeypatch) -> None:
    monkeypatch.setattr(baseline_variant, "grade_clip", lambda score: Grade.EXACT if score.gain > 20.0 else Grade.GIST)
    both = [finding(10.5, Grade.EXACT), finding(25.0, Grade.EXACT, probe="treadmill_two")]
    row, other = with_own_finding(variants(10.0, Grade.GIST), both, "park_walker")
    assert (row.score.gain, row.grade) == (10.5, Grade.EXACT)
    assert other.not_compared == ""
