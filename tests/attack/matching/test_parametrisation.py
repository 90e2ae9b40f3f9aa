"""Clips as cosine coefficients, against scipy's transform, autograd-free algebra and the prior's own samples."""

import math

import pytest
import scipy.fft
import torch

from auditor.attack.matching.parametrisation import PIXEL_VARIANCE, Modes
from auditor.prior.modes import CosineTransform, mode_variance
from auditor.solvers.parametrisation import Pixels

SHAPE = (4, 3, 6, 8)


def clips(seed: int, dtype=torch.float64) -> torch.Tensor:
    return torch.rand(2, *SHAPE, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def test_the_transform_is_scipys():
    x = clips(0)
    transform = CosineTransform.of(SHAPE, x)
    expected = scipy.fft.dctn(x.numpy(), axes=(1, 2, 3, 4), norm="ortho")
    assert torch.allclose(transform.modes(x), torch.from_numpy(expected), atol=1e-12)
    assert torch.allclose(transform.clips(transform.modes(x)), x, atol=1e-12)


def test_the_variance_is_the_diagonal_of_the_prior_in_the_modes():
    shape = (2, 3, 4, 4)
    line = [
        torch.tensor([[r ** abs(i - j) for j in range(n)] for i in range(n)], dtype=torch.float64)
        for n, r in zip(shape, (0.98, 0.9, 0.95, 0.95), strict=True)
    ]
    covariance = 0.05 * torch.kron(torch.kron(line[0], line[1]), torch.kron(line[2], line[3]))
    count = math.prod(shape)
    basis = CosineTransform.of(shape, covariance).modes(torch.eye(count, dtype=torch.float64).view(count, *shape))
    matrix = basis.reshape(count, count).T
    diagonal = (matrix @ covariance @ matrix.T).diagonal()
    assert torch.allclose(mode_variance(shape, 0.05).flatten(), diagonal, atol=1e-12)


def test_unit_coefficients_make_clips_of_the_prior():
    like = torch.zeros(500, *SHAPE, dtype=torch.float64)
    variables = Modes().bind(like)
    z = 0.2 * torch.randn(like.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    made = variables.clips(z, 1.0) - 0.5
    # 500 clips: a standard error of a few percent, and few of them reach the margin at this scale.
    assert float(made.square().mean()) == pytest.approx(0.04 * PIXEL_VARIANCE, rel=0.1)
    assert float((made[:, 1:] * made[:, :-1]).mean() / made.square().mean()) > 0.9


def test_a_start_comes_back_but_for_what_the_prior_takes_as_noise():
    like = torch.zeros(1, *SHAPE)
    variables = Modes().bind(like)
    x = variables.clips(0.2 * torch.randn(like.shape, generator=torch.Generator().manual_seed(1)), 1.0)
    # A mode of deviation d loses the share s^2 / (d^2 + s^2) of 0.2 d: at most 0.2 s / 2, s = 0.02.
    assert float((variables.clips(variables.of(x), 1.0) - x).square().mean().sqrt()) < 0.0025
    noise = 0.5 + 0.02 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    assert float((variables.clips(variables.of(noise), 1.0) - 0.5).std()) < 0.01


def test_few_modes_move_at_first_and_all_at_last():
    x = clips(1, torch.float32)
    variables = Modes(coarse=5, full=0.5).bind(x)
    counts = [variables.moving(p) for p in (0.0, 0.2, 0.4, 0.5, 0.9)]
    assert counts[0] == 5
    assert counts == sorted(counts)
    assert counts[-2:] == [math.prod(SHAPE)] * 2
    z = torch.ones_like(x).requires_grad_(True)
    (slope,) = torch.autograd.grad(variables.clips(0.01 * z, 0.0).square().sum(), z)
    # What moves are the five modes of most variance.
    kept = (slope[0] != 0).nonzero().tolist()
    order = mode_variance(SHAPE, 1.0).flatten().argsort(descending=True)[:5]
    assert sorted(kept) == sorted([int(i) for i in torch.unravel_index(k, SHAPE)] for k in order)


def test_pixels_are_the_clip_itself_in_its_box():
    x = clips(2)
    variables = Pixels().bind(x)
    z = variables.of(x)
    assert torch.equal(variables.clips(z, 0.0), x)
    z += 0.7
    variables.confine(z)
    assert float(z.max()) == 1.0
    assert float(x.max()) <= 1.0
