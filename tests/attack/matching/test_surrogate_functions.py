"""Surrogate gradient of switches: exact forward and first backward, and the derivative of a smooth choice after it."""

import pytest
import torch
from bench_nets import clip, psnr, seeded, view_of
from torch import nn
from torch.nn import functional as F

from auditor.attack.matching.gradient_matching import GradientMatching
from auditor.attack.matching.surrogate_gradient import SurrogateGradient
from auditor.records import Budget, Reconstruction

TAU = 0.4


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


SLOPES = torch.tensor([0.1, 0.3, 0.2], dtype=torch.float64)
FUNCTIONS = {
    "relu": (F.relu, (2, 3, 40)),
    "leaky": (lambda x: F.leaky_relu(x, 0.07), (2, 3, 40)),
    "leaky default": (F.leaky_relu, (2, 3, 40)),
    "leaky module": (nn.LeakyReLU(0.2), (2, 3, 40)),
    "relu6": (lambda x: F.relu6(4 * x), (2, 3, 40)),
    "relu6 module": (nn.ReLU6(), (2, 3, 40)),
    "hardtanh": (lambda x: F.hardtanh(x, -0.5, 0.8), (2, 3, 40)),
    "prelu": (lambda x: F.prelu(x, SLOPES), (2, 3, 40)),
    "prelu, one slope": (lambda x: F.prelu(x, SLOPES[:1]), (2, 3, 40)),
    "max 1d": (nn.MaxPool1d(2), (2, 3, 8)),
    "max 2d": (lambda x: F.max_pool2d(x, 2), (2, 3, 6, 8)),
    "max 2d, overlapping and padded": (lambda x: F.max_pool2d(x, 3, 2, 1), (2, 3, 7, 9)),
    "max 3d": (nn.MaxPool3d((1, 2, 2)), (2, 3, 4, 6, 6)),
    "max 3d, no batch": (nn.MaxPool3d(2), (3, 4, 6, 6)),
    "adaptive 3d": (nn.AdaptiveMaxPool3d((2, 1, None)), (2, 3, 4, 6, 5)),
    "adaptive, uneven": (nn.AdaptiveMaxPool2d(4), (2, 3, 6, 6)),
    "dilated": (nn.MaxPool2d(2, dilation=2), (2, 3, 6, 6)),
    "ceiling": (nn.MaxPool2d(2, ceil_mode=True), (2, 3, 7, 7)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_forward_and_first_backward_are_exact(name):
    function, shape = FUNCTIONS[name]
    x = noise(*shape).requires_grad_(True)
    plain = function(x)
    v = noise(*plain.shape, seed=1)
    (first,) = torch.autograd.grad((plain * v).sum(), x)
    with SurrogateGradient(TAU):
        bent = function(x)
        (first_bent,) = torch.autograd.grad((bent * v).sum(), x, create_graph=True)
    assert torch.equal(plain, bent)
    # Overlapping windows add up in another order.
    assert torch.allclose(first, first_bent, rtol=0, atol=1e-15)
    # In v the first derivative is linear, and stays exactly so.
    w = noise(*shape, seed=2)
    v = v.requires_grad_(True)
    with SurrogateGradient(TAU):
        (slope,) = torch.autograd.grad((function(x) * v).sum(), x, create_graph=True)
        (in_v,) = torch.autograd.grad((slope * w).sum(), v, retain_graph=True)
    (plain_slope,) = torch.autograd.grad((function(x) * v).sum(), x, create_graph=True)
    (expected,) = torch.autograd.grad((plain_slope * w).sum(), v)
    assert torch.allclose(in_v, expected, rtol=0, atol=1e-15)


def second(function, x: torch.Tensor, v: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_(True)
    with SurrogateGradient(TAU):
        (slope,) = torch.autograd.grad((function(x) * v).sum(), x, create_graph=True)
        (bend,) = torch.autograd.grad((slope * w).sum(), x)
    return bend


def test_the_bump_of_a_leaky_step_is_that_of_relu_less_the_slope():
    x, v, w = noise(50), noise(50, seed=1), noise(50, seed=2)
    relu = second(F.relu, x, v, w)
    assert torch.allclose(second(lambda x: F.leaky_relu(x, 0.2), x, v, w), 0.8 * relu, atol=1e-12)
    assert torch.allclose(second(lambda x: F.prelu(x, SLOPES[:1]), x, v, w), 0.9 * relu, atol=1e-12)


def test_the_bumps_of_hardtanh_are_at_its_ends():
    x = torch.linspace(-3, 3, 601, dtype=torch.float64)
    ones = torch.ones_like(x)
    bend = second(lambda x: F.hardtanh(x, -1.0, 1.5), x, ones, ones)
    # Inside, the factor of the other end is exactly one: up at -1, down at 1.5. Outside, it is exactly zero.
    width = TAU * float(x.std())
    s = torch.sigmoid((x + 1.0) / width)
    inside = (x > -1.0) & (x < 1.5)
    t = torch.sigmoid((1.5 - x) / width)
    expected = (s * (1 - s) * (x < 1.5) - t * (1 - t) * (x > -1.0)) / width
    assert torch.allclose(bend, expected, atol=1e-12)
    assert bool(inside.any())


@pytest.mark.parametrize(("kernel", "stride", "pad"), [(2, 2, 0), (3, 2, 1), (3, 1, 1)])
def test_a_maximum_bends_as_the_softmax_of_its_window_does(kernel, stride, pad):
    x, w = noise(1, 1, 9), noise(1, 1, 9, seed=2)
    v = noise(*F.max_pool1d(x, kernel, stride, pad).shape, seed=1)
    width = TAU * float(x.std())

    def chosen(y: torch.Tensor) -> float:
        """What is selected of w, weighted by v, when the maximum is taken softly; window by window."""
        total = 0.0
        for out in range(v.shape[-1]):
            inside = [i for i in range(out * stride - pad, out * stride - pad + kernel) if 0 <= i < 9]
            share = torch.softmax(y[0, 0, inside] / width, dim=0)
            total += float(v[0, 0, out] * (share * w[0, 0, inside]).sum())
        return total

    bend = second(lambda x: F.max_pool1d(x, kernel, stride, pad), x, v, w)
    for i in range(9):
        step = torch.zeros_like(x)
        step[0, 0, i] = 1e-6
        assert float(bend[0, 0, i]) == pytest.approx((chosen(x + step) - chosen(x - step)) / 2e-6, abs=1e-6)


def test_in_place_functions_stay_in_place():
    x = noise(3, 4)
    with SurrogateGradient(TAU):
        for function in (lambda y: F.leaky_relu(y, 0.1, inplace=True), lambda y: F.hardtanh(y, -1.0, 1.0, True)):
            y = x * 1.0
            assert function(y) is y
    assert torch.equal(y, F.hardtanh(x))


def pooling() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(3, 10, 3, padding=1), nn.LeakyReLU(0.1), nn.MaxPool3d((1, 2, 2)), nn.Conv3d(10, 16, 3, padding=1),
        nn.ReLU6(), nn.MaxPool3d(2), nn.Flatten(), nn.Linear(16 * 2 * 4 * 4, 10),
    )  # fmt: skip


def test_a_net_with_max_pooling_is_matched_with_curvature():
    # Over four clips and two numbers of threads it was neither better nor worse than without (0.9 dB either way).
    truth = clip(5)
    view = view_of(seeded(pooling), truth[None], [3])
    bent = GradientMatching(tau=0.3).invert(view, Budget(seconds=120, steps=100), 0)
    assert isinstance(bent, Reconstruction)
    assert bent.objective < 0.3 * bent.trace[0].objective
    assert psnr(bent.clips[0], truth) > psnr(torch.full_like(truth, 0.5), truth)
