"""What a verdict is told of an audit: clips tested, attacks that broke or did not finish, labels that are proven."""

from types import SimpleNamespace

import pytest

from auditor.pipeline.documents.course import course_of
from auditor.pipeline.findings import label_finding
from auditor.records import LabelGuess, Outcome, Skipped
from auditor.results.attempts import Conclusion
from auditor.score import Grade

NO_MEMBERSHIP = Skipped(stage="membership", what="frame membership", because="not-applicable", reason="none")


def ran(probe, outcome=Outcome.CONVERGED, null=True, kind="real"):
    return SimpleNamespace(
        observed=SimpleNamespace(probe=SimpleNamespace(name=probe, kind=kind)),
        reconstruction=SimpleNamespace(outcome=outcome),
        null=object() if null else None,
    )


def finding(*results, grade=Grade.NOT_SHOWN, null_at_chance=True, name="search"):
    return SimpleNamespace(
        attack=SimpleNamespace(name=name, title=name.title()),
        grade=grade,
        counts=null_at_chance is True,
        null_at_chance=null_at_chance,
        results=results,
    )


def course(*findings, skipped=(), diagnosed=None):
    return course_of(
        findings, None, NO_MEMBERSHIP, skipped, None, diagnosed, failed_controls=(), untested_controls=("a control",)
    )


def test_a_clip_is_tested_by_an_attack_that_finished_and_has_its_null():
    seen = course(
        finding(ran("a"), ran("b", Outcome.OUT_OF_BUDGET), ran("c", null=False), ran("d", kind="canary")),
        finding(ran("e", Outcome.UNVERIFIED), ran("f", Outcome.DIVERGED), ran("g", Outcome.SOLVED)),
    )
    assert (seen.clips, seen.tested_clips) == (6, 2)
    assert seen.unfinished == ("search: still improving when its budget ended in 1 of 4 runs",)
    assert seen.open_questions == ("the control 'a control' could not be run",)


def test_attacks_that_broke_are_told_apart_from_those_that_do_not_apply():
    gone = [
        Skipped(stage="invert", what=because, because=because, reason="why")
        for because in ("failed", "not-applicable", "out-of-budget", "out-of-memory")
    ]
    seen = course(skipped=(*gone, Skipped(stage="expose", what="x", because="failed", reason="why")))
    assert seen.crashed == ("failed",)
    assert seen.unfinished == ("failed: why", "out-of-budget: why", "out-of-memory: why")


@pytest.mark.parametrize(("null", "said"), [(False, "was not at chance"), (None, "could not be run")])
def test_what_has_no_null_at_chance_is_an_open_question_and_no_grade(null, said):
    seen = course(finding(ran("a"), grade=Grade.EXACT, null_at_chance=null))
    assert seen.grade is Grade.NOT_SHOWN
    assert any(said in question for question in seen.open_questions)


@pytest.mark.parametrize("conclusion", list(Conclusion))
def test_a_diagnosis_that_blames_the_search_is_told(conclusion):
    said = course(
        diagnosed=SimpleNamespace(finding=finding(), diagnosis=SimpleNamespace(conclusion=conclusion))
    ).search_failed
    blamed = {Conclusion.OPTIMISER_FAILED, Conclusion.MISMATCH, Conclusion.WRONG_LABELS}
    assert bool(said) is (conclusion in blamed)


def labelled(truth, read, certain=True):
    return SimpleNamespace(labels=truth, guess=LabelGuess(rule="iDLG", labels=read, certain=certain))


def test_labels_that_the_updates_prove_count_without_a_test():
    two_classes = [labelled((k % 2,), (k % 2,)) for k in range(4)]
    found = label_finding(two_classes, classes=2)
    # Half of all guesses: four right ones are no surprise.
    assert found.interval.chance == 0.5
    assert found.proven
    assert found.grade is Grade.GIST
    whole = label_finding([labelled((0, 1, 2), (2, 1, 0))], classes=3)
    assert (whole.interval.chance, whole.grade) == (1.0, Grade.GIST)
    for doubtful in (
        [labelled((k % 2,), (k % 2,), certain=False) for k in range(4)],
        [*two_classes, labelled((1,), (0,))],
    ):
        found = label_finding(doubtful, classes=2)
        assert not found.proven
        assert found.grade is Grade.NOT_SHOWN
