"""Convolutions by three operations have PyTorch's derivatives of the first and the second order."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parent.parent.parent / "benchmarks"))
from convolutions import conv3d

SETTINGS = {"plain": {}, "strided": {"stride": (1, 2, 2), "padding": 1}, "groups": {"groups": 2, "dilation": (1, 2, 1)}}


@pytest.mark.parametrize("kind", SETTINGS)
def test_derivatives_are_pytorchs(kind):
    generator = torch.Generator().manual_seed(0)
    x, b = (torch.randn(s, generator=generator, dtype=torch.float64) for s in ((2, 4, 4, 6, 5), (4,)))
    w = torch.randn(4, 4 // SETTINGS[kind].get("groups", 1), 2, 3, 2, generator=generator, dtype=torch.float64)
    given = [t.requires_grad_() for t in (x, w, b)]

    def derived(function):
        made = function(*given, **SETTINGS[kind])
        first = torch.autograd.grad(made.pow(3).sum(), given, create_graph=True)
        return [made, *first, *torch.autograd.grad(sum(g.square().sum() for g in first), given)]

    for ours, theirs in zip(derived(conv3d), derived(torch.conv3d), strict=True):
        torch.testing.assert_close(ours, theirs)
