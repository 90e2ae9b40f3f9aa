"""What frames of the scene add, and which frames were there: the sentences follow the numbers."""

import copy

import pytest

from auditor.report.markdown import to_markdown
from auditor.report.membership import membership_rows, membership_sentence
from auditor.report.page import render
from auditor.report.pictures import PictureGallery
from auditor.report.references import reference_rows
from auditor.results.reading import check_results

from .sample import membership, sample_results


def changed(**numbers):
    """The sample, with other numbers of the copy in every run with a reference."""
    results = copy.deepcopy(sample_results())
    for finding in results["findings"]:
        for run in finding["results"]:
            if "copy" in run["score"]:
                run["score"]["copy"] |= numbers
                run["score"]["motion_gain"] = numbers.get("motion_beyond", 0.0)
    return results


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"pasted": True, "gain": 9.0}, "the result is the frame itself"),
        ({"gain": 0.4}, "Adds nothing beyond the frame itself"),
        ({"gain": -3.0}, "Adds nothing beyond the frame itself"),
        ({"gain": 2.2, "motion_beyond": 0.4}, "nothing in motion"),
        ({"gain": 4.0, "motion_beyond": 30.0}, "4.0 dB to the frame and 30.0 dB in motion"),
        ({"gain": 4.0, "motion_beyond": 1.5}, "adds no motion to what the update gives without it"),
        ({"gain": None}, "Adds nothing"),
    ],
)
def test_the_sentence_says_what_the_numbers_say(numbers, said):
    rows = reference_rows(changed(**numbers))
    assert {row.kind for row in rows} == {"R1"}
    assert all(said in row.sentence for row in rows), rows[0].sentence


def test_the_best_run_stands_beside_the_best_without_a_frame():
    results = sample_results()
    (row,) = [r for r in reference_rows(results) if r.probe == "park_walker"]
    runs = {
        kind: max(
            r["score"]["psnr"]
            for f in results["findings"]
            if f["reference"] == kind
            for r in f["results"]
            if r["probe"] == "park_walker"
        )
        for kind in ("R0", "R1")
    }
    assert (row.without, row.psnr) == (runs["R0"], runs["R1"])


def test_silence_is_told_as_silence():
    asked = {"membership": membership(None, claims=False)}
    assert membership_sentence(asked).startswith("no claim is made: 2 of 6 frames")
    assert {row.called for row in membership_rows(asked, PictureGallery(False))} == {None}
    asked["membership"]["clips"] = []
    assert membership_sentence(asked).startswith("not asked: ")
    told = {"membership": membership(None)}
    assert membership_sentence(told).startswith("24 of 24 frames of the clips are told, 0 of 66 others")
    assert [row.called for row in membership_rows(told, PictureGallery(False))] == [3, 0, 0]
    told["membership"]["grade"] = "NOT_SHOWN"
    assert "too few clips" in membership_sentence(told)
    assert membership_sentence({}) == ""


def test_every_render_tells_of_both_and_of_the_frames_notes():
    results = sample_results()
    check_results(results)
    for text in (render(results, printed=False), to_markdown(results)):
        assert "What an attacker with one frame of your scene gains" in text
        assert "Was this frame in the client" in text
        assert "resized from 720x1280" in text
    assert "frames held, no update: 19.4 dB" in render(results, printed=False)


def test_results_of_before_still_render():
    results = sample_results()
    del results["references"], results["membership"]
    for finding in results["findings"]:
        for run in finding["results"]:
            run["score"].pop("copy", None)
            run["pictures"].pop("reference", None)
    check_results(results)
    for text in (render(results, printed=True), to_markdown(results)):
        assert "one frame of your scene" not in text
        assert "Was this frame" not in text
