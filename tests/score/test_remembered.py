"""Values are kept for equal tensors, for a few of them, and never for one that has changed."""

import gc

import torch

from auditor.score.remembered import Remembered


def counting(most):
    made = []

    def total(x):
        made.append(float(x.sum()))
        return made[-1]

    return Remembered(total, most), made


def test_equal_content_is_computed_once():
    remembered, made = counting(2)
    x = torch.arange(6.0)
    assert remembered(x) == remembered(x) == remembered(x.clone()) == 15.0
    assert made == [15.0]


def test_shape_type_and_layout_are_told_apart():
    remembered, made = counting(9)
    x = torch.arange(6.0).reshape(2, 3)
    for other in (x, x.flatten(), x.double(), x.t().contiguous(), x.flip(0)):
        remembered(other)
    assert len(made) == 5
    # The same values in the same order of axes, wherever they lie.
    remembered(x.t().contiguous().t())
    assert len(made) == 5


def test_a_tensor_that_was_written_to_is_computed_again():
    remembered, _ = counting(2)
    x = torch.ones(4)
    assert remembered(x) == 4.0
    x[0] = 3.0
    assert remembered(x) == 6.0


def test_the_value_used_longest_ago_goes_first_and_no_tensor_is_kept():
    remembered, made = counting(2)
    a, b, c = torch.ones(1), torch.ones(2), torch.ones(3)
    for x in (a, b, a, c, a, b):
        remembered(x)
    assert made == [1.0, 2.0, 3.0, 2.0]
    assert len(remembered._keys) == 3
    del x, a, b, c
    gc.collect()
    assert not remembered._keys
