"""Every number of a document is the number of the record that it came from: compared value by value."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from record_samples import differences, sample

from auditor.pipeline.documents.pictures import png
from auditor.report.pictures import PictureGallery
from auditor.results import encode
from auditor.results.encode import document
from auditor.results.findings import Pictures
from auditor.results.refusal import check
from auditor.results.schema import DOCUMENTS
from auditor.results.scores import ClipScore, CopyScore, Exposure, Retrieval
from auditor.results.study import StudyPictures

# Swapped for a neighbour: record, field, and the field whose value stands in its place.
MUTATIONS = [
    (ClipScore, "ssim_best", "ssim_median"),
    (ClipScore, "motion", "motion_gain"),
    (ClipScore, "motion_correlation", "motion"),
    (ClipScore, "rank_same_scene", "rank"),
    (ClipScore, "perceptual_blind", "perceptual"),
    (CopyScore, "followed", "motion_beyond"),
    (CopyScore, "motion_beyond", "motion_gain"),
    (Retrieval, "chance_rank", "mean_rank"),
    (Exposure, "ceiling", "prior"),
]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_document_says_what_its_records_say_and_fits_its_form(name):
    record = sample(DOCUMENTS[name])
    written = document(record)
    assert differences(record, written) == []
    check(written, DOCUMENTS[name], name, "")


def test_the_largest_pictures_are_written_whole():
    """Noise of 224 pixels a side is stored with 160 and compresses to nothing less."""
    noise = torch.rand(3, 224, 224, generator=torch.Generator().manual_seed(0))
    largest = png(noise)
    assert len(largest) > 90_000
    strip = (largest, None)
    kept = dataclasses.replace(sample(Pictures), original=strip, reconstruction=strip, reference=strip)
    written = document(kept)
    for name in ("original", "reconstruction", "reference"):
        assert written[name] == [largest, None], name
    assert PictureGallery(printed=False).picture(written["original"][0]) is not None
    assert document(dataclasses.replace(sample(StudyPictures), enhanced=largest))["enhanced"] == largest


def test_numbers_that_json_lacks_are_words_and_null():
    score = dataclasses.replace(
        sample(ClipScore), psnr=math.inf, gain=-math.inf, motion=math.nan, perceptual=None, lpips=1 / 3
    )
    written = document(score)
    assert (written["psnr"], written["gain"], written["motion"]) == ("inf", "-inf", None)
    assert (written["perceptual"], written["lpips"]) == (None, 0.333333)
    assert differences(score, written) == []


@pytest.mark.parametrize(("kind", "field", "neighbour"), MUTATIONS, ids=lambda v: v if isinstance(v, str) else "")
@pytest.mark.parametrize("dropped", [False, True], ids=["swapped", "dropped"])
def test_a_wrong_mapping_is_found(monkeypatch, kind, field, neighbour, dropped):
    """Plant each mutation in what takes values from records, and see the comparison of a whole audit fail."""
    right = encode.value_of

    def wrong(record: Any, name: str) -> Any:
        if not isinstance(record, kind) or name != field:
            return right(record, name)
        return None if dropped else right(record, neighbour)

    record = sample(DOCUMENTS["audit"])
    assert differences(record, document(record)) == []
    monkeypatch.setattr(encode, "value_of", wrong)
    found = differences(record, document(record))
    assert found
    assert all(f".{field}:" in place for place in found)
