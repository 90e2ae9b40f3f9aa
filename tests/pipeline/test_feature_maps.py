"""Inner values that a recursion recovers: held against the truth, with another clip as the null."""

import dataclasses
import math

import pytest
import torch
from short_scans import results_of, short

from auditor.journal import journaling
from auditor.options import ScanOptions
from auditor.pipeline import units
from auditor.pipeline.deep import feature_maps
from auditor.records import Exposure, Reconstruction
from auditor.report import write
from auditor.report.depth import depth_line
from auditor.report.front.sentences import residual_risk
from auditor.report.headline import statement
from auditor.results.consistency import contradictions
from auditor.score import Course, Grade, decide
from auditor.score.severity import severity_of_map

MODEL = f"{__file__.rpartition('/')[0]}/../models_for_scans.py:narrow"
OPTIONS = ScanOptions(model=MODEL, input_shape=(3, 4, 16, 16), preset="fast")
SHORT = short(steps=20, attacks=("residual-recursion", "layer-recursion"))


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Where what attacks made is kept for the scans of this file, which differ in what becomes of it."""
    return tmp_path_factory.mktemp("parts")


@pytest.fixture(scope="module")
def results(parts):
    """A search too short for a picture, under a descent that is whole."""
    with journaling(parts, "program"):
        return results_of(OPTIONS, SHORT, 0)


def test_depth_is_told_layer_by_layer(results, tmp_path):
    finding = next(f for f in results["findings"] if f["attack"] == "residual-recursion")
    for result in finding["results"]:
        depth = result["depth"]
        assert [d["weights"][0] for d in depth[:2]] == ["blocks.4.conv2.weight", "blocks.4.conv1.weight"]
        assert all(d["residual"] < 1e-3 for d in depth if d["how"] != "sought")
        assert all(d["how"] != "exact" or d["equations"] >= d["unknowns"] for d in depth)
        # The first convolution of a block and its shortcut read the same value: their equations stack.
        assert ["blocks.1.shortcut.0.weight", "blocks.1.conv1.weight"] in [d["weights"] for d in depth]
        assert [d["how"] for d in depth[-2:]] == ["completed", "sought"]
    assert depth_line(results) == (
        "10 inner values exact (1 by signs), down to what blocks.0.conv1 reads; then 288 of 1,024 unknowns"
    )
    write(results, [tmp_path / "report.html"])
    page = (tmp_path / "report.html").read_text()
    assert "How deep the recursion went" in page
    assert "blocks.1.shortcut.0.weight" in page


def test_an_inner_value_is_a_finding_with_its_own_null(results):
    (found,) = results["feature_maps"]
    assert found["attack"] == "residual-recursion"
    assert found["counts"]
    assert len(found["clips"]) == 2
    for clip in found["clips"]:
        assert clip["error"] < 1e-2 < clip["null_error"]
    assert found["values"] == torch.Size(found["shape"]).numel()
    assert found["per_pixel"] == pytest.approx(found["values"] / (4 * 3 * 16 * 16), rel=1e-4)
    assert "no picture" in found["summary"]


def test_the_verdict_follows_from_it_where_pixels_fall_short(results):
    assert results["verdict"]["word"] == "FAIL"
    assert results["feature_maps"][0]["per_pixel"] >= 1.0
    short_of = {**results, "findings": [{**f, "grade": "GIST"} for f in results["findings"]]}
    assert statement(short_of) == results["feature_maps"][0]["summary"]
    assert statement(results) == results["findings"][0]["summary"]
    assert residual_risk(results) == "High: pictures of private clips can be recovered from updates."


def test_a_report_is_written_where_the_verdict_rests_on_it_alone(results, parts, monkeypatch, tmp_path):
    whole = units.run_attack

    def grey(*args, **more):
        made = whole(*args, **more)
        if not isinstance(made, Reconstruction):
            return made
        return dataclasses.replace(made, clips=torch.full_like(made.clips, 0.5))

    monkeypatch.setattr(units, "run_attack", grey)
    with journaling(parts, "program") as kept:
        results = results_of(OPTIONS, SHORT, 0)
    assert kept.taken
    assert {f["grade"] for f in results["findings"]} <= {"NOT_SHOWN", "GIST"}
    assert results["verdict"]["word"] == "FAIL"
    assert "recovered exactly" in results["verdict"]["reasons"][0]
    assert results["severity"]["band"] == "high"
    assert residual_risk(results).startswith("High: inner values of the network")
    write(results, [tmp_path / "results.json"])
    assert contradictions({**results, "feature_maps": ()})
    (found,) = results["feature_maps"]
    assert contradictions({**results, "feature_maps": ({**found, "per_pixel": 0.3},)})


@pytest.mark.slow
def test_a_value_that_is_not_the_clips_does_not_count(monkeypatch):
    whole = units.run_attack

    def forged(*args, **more):
        made = whole(*args, **more)
        if not isinstance(made, Reconstruction) or made.activation is None:
            return made
        value = made.activation.value.roll(1, 1)
        return dataclasses.replace(made, activation=dataclasses.replace(made.activation, value=value))

    monkeypatch.setattr(units, "run_attack", forged)
    results = results_of(OPTIONS, SHORT, 0)
    (found,) = results["feature_maps"]
    assert not found["counts"]
    assert "did not hold" in found["summary"]


QUIET = Course(
    grade=Grade.NOT_SHOWN,
    exposure=Exposure(psnr=14.5, ceiling=15.0, prior=14.0, sigma=0.03, cap=30.0, determined=0.1),
    clips=2,
    tested_clips=2,
)


@pytest.mark.parametrize(
    ("per_pixel", "tested", "word"), [(1.3, 1, "FAIL"), (0.3, 1, "INCONCLUSIVE"), (0.3, 2, "WARN"), (None, 2, "PASS")]
)
def test_what_an_exact_inner_value_means_for_the_verdict(per_pixel, tested, word):
    assert decide(dataclasses.replace(QUIET, feature_map=per_pixel, tested_clips=tested)).word == word
    failed = dataclasses.replace(QUIET, feature_map=per_pixel, failed_controls=("one",))
    assert decide(failed).word == "INCONCLUSIVE"


def test_an_exact_inner_value_rates_as_a_gist_until_it_holds_as_many_numbers_as_the_clip():
    less, half, whole = (severity_of_map(share, 1.0) for share in (0.0, 0.5, 1.0))
    assert less.score < half.score < whole.score
    assert (less.band, half.band, whole.band) == ("medium", "medium", "high")
    assert severity_of_map(4.0, 1.0).score == whole.score


def test_a_value_of_several_clips_is_compared_clip_by_clip_and_frames_belong_to_one():
    truth = torch.randn(1, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    both = torch.cat([truth + 1.0, truth])
    assert feature_maps._error(both, truth) == 0.0
    assert feature_maps._error(both[:1], truth) > 0.5
    assert feature_maps._error(both[:, :1], truth) == math.inf
    assert feature_maps._shape(both, 2) == (3, 2, 4, 4)
    frames = torch.zeros(8, 5, 4, 4)
    assert feature_maps._shape(frames, 1) == (8, 5, 4, 4)
    assert feature_maps._shape(frames, 2) == (4, 5, 4, 4)
