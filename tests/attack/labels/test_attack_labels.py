"""Label restoration is exact for one clip and good for several."""

import pytest
import torch
from bench_nets import clip, flat, pooled, seeded, view_of

from auditor.attack import restore_labels
from auditor.records import LabelGuess, Skipped


@pytest.mark.parametrize("label", [0, 3, 9])
@pytest.mark.parametrize("make", [flat, pooled])
def test_idlg_reads_the_label_of_one_clip(make, label):
    guess = restore_labels(view_of(seeded(make), clip(label)[None], [label], known=False))
    assert isinstance(guess, LabelGuess)
    assert guess.labels == (label,)
    assert guess.rule == "iDLG"
    assert guess.certain


def test_without_a_bias_the_rows_tell():
    view = view_of(seeded(flat), clip(1)[None], [7], sent=["5.weight"], known=False)
    guess = restore_labels(view)
    assert isinstance(guess, LabelGuess)
    assert guess.labels == (7,)


@pytest.mark.parametrize("labels", [[1, 4, 6, 8], [2, 2, 5, 9], [3, 3, 3, 3]])
def test_ilrg_counts_the_labels_of_a_batch(labels):
    clips = torch.stack([clip(i) for i in range(4)])
    guess = restore_labels(view_of(seeded(pooled), clips, labels, known=False))
    assert isinstance(guess, LabelGuess)
    assert guess.rule == "iLRG"
    assert sorted(guess.labels) == labels


def test_an_update_without_a_head_gives_no_label_and_says_why():
    guess = restore_labels(view_of(seeded(flat), clip(1)[None], [7], sent=["0.weight", "0.bias"], known=False))
    assert isinstance(guess, Skipped)
    assert "head" in guess.reason
