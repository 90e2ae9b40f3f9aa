"""The word about an enhancer, on cases whose answer is known."""

import pytest
import torch

from auditor.pipeline.enhancement_words import MARGIN, EnhancedScore, added, sharpness


def score(psnr, rank=1, sharpness=0.05, perceptual=None, embedding_rank=None):
    return EnhancedScore(
        psnr=psnr, ssim=0.5, rank=rank, sharpness=sharpness, perceptual=perceptual, embedding_rank=embedding_rank
    )


BASE, NULL = score(25.0), score(12.0, rank=40)


def word(made, null=NULL, base=BASE, null_base=NULL):
    return added(base, made, null_base, null).word


def test_a_gain_that_the_null_has_not_is_recovered_detail():
    assert word(score(25.0 + MARGIN + 0.01)) == "recovered detail"
    assert word(score(25.0 + MARGIN - 0.01)) == "nothing"


def test_a_gain_that_the_null_has_too_is_nothing():
    assert word(score(26.0), null=score(12.9, rank=40)) == "nothing"
    assert word(score(26.0), null=score(12.3, rank=40)) == "recovered detail"


def test_a_null_that_loses_does_not_make_a_small_gain_larger():
    assert word(score(25.2), null=score(10.0, rank=40)) == "nothing"


def test_without_a_null_nothing_is_claimed():
    assert added(BASE, score(30.0), None, None).word == "not judged"


@pytest.mark.parametrize("made", [score(26.0, rank=2), score(26.0, embedding_rank=5)])
def test_a_lost_clip_is_not_recovered(made):
    assert word(made, base=score(25.0, embedding_rank=1)) == "nothing"


def test_sharper_or_nearer_looks_without_db_is_only_prettier():
    assert word(score(25.1, sharpness=0.06)) == "only prettier"
    assert word(score(25.1, sharpness=0.052)) == "nothing"
    near = score(24.0, perceptual=0.3)
    assert word(near, base=score(25.0, perceptual=0.4)) == "only prettier"


def test_sharper_but_farther_is_worse():
    made = added(BASE, score(24.0, sharpness=0.08), NULL, NULL)
    assert made.word == "worse"
    assert "-1.0 dB over bicubic" in made.sentence


def test_sharpness_of_a_checkerboard_is_its_contrast():
    board = (torch.arange(8)[:, None] + torch.arange(8)).remainder(2).float() * 0.25
    assert sharpness(board.expand(2, 3, 8, 8)) == pytest.approx(0.25)
    assert sharpness(torch.full((1, 1, 4, 4), 0.3)) == 0.0
