"""GridSample and Resize against PyTorch's own functions, forwards and in both derivatives."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from auditor.model.onnx.graph import Node
from auditor.model.onnx.operators import OPERATORS
from auditor.model.onnx.operators.sampling import PADDINGS, grid_sample

SAMPLING = [
    (mode, padding, aligned, axes)
    for mode, padding, aligned, axes in itertools.product(
        ("linear", "nearest", "cubic"), PADDINGS, (False, True), (2, 3)
    )
    if not (mode == "cubic" and axes == 3)  # PyTorch has no volumetric cubic sampling to compare with
]


def pixels_and_positions(axes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return float64 pixels and positions, some of them far outside."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 2, *(4, 5, 3)[:axes], generator=generator, dtype=torch.float64)
    positions = 3 * torch.rand(2, *(3, 2, 2)[:axes], axes, generator=generator, dtype=torch.float64) - 1.5
    return x.requires_grad_(), positions.requires_grad_()


@pytest.mark.parametrize(("mode", "padding", "aligned", "axes"), SAMPLING)
def test_grid_sample_is_that_of_pytorch(mode: str, padding: str, aligned: bool, axes: int) -> None:
    x, positions = pixels_and_positions(axes)
    name = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    theirs = F.grid_sample(x, positions, name, padding, aligned)
    ours = grid_sample(x, positions, mode, padding, aligned)
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(1), dtype=theirs.dtype)
    wanted = torch.autograd.grad((theirs * weights).sum(), (x, positions))
    found = torch.autograd.grad((ours * weights).sum(), (x, positions), allow_unused=True)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(torch.zeros_like(b) if a is None else a, b)


@pytest.mark.parametrize(("mode", "padding"), list(itertools.product(("linear", "cubic"), PADDINGS)))
@pytest.mark.parametrize("axes", [2, 3])
def test_grid_sample_has_second_derivatives(mode: str, padding: str, axes: int) -> None:
    x, positions = pixels_and_positions(axes, seed=2)
    assert torch.autograd.gradgradcheck(
        lambda a, b: grid_sample(a, b, mode, padding, False), (x, positions), fast_mode=True
    )


@pytest.mark.parametrize(("mode", "axes"), [("nearest", 3), ("trilinear", 3), ("bilinear", 2), ("bicubic", 2)])
@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_resize_is_interpolate(mode: str, axes: int, factor: float) -> None:
    x = pixels_and_positions(axes)[0]
    x = torch.cat([x, x.flip(2)], 2)[..., :2]  # even sizes
    x = torch.cat([x, x], 3)[:, :, :, :4]
    attributes = {
        "mode": {"nearest": "nearest", "bicubic": "cubic"}.get(mode, "linear"),
        "coordinate_transformation_mode": "asymmetric" if mode == "nearest" else "half_pixel",
        "nearest_mode": "floor",
    }
    node = Node("Resize", ("x", "", "s"), ("y",), attributes, opset=19)
    scales = torch.tensor([1.0, 1.0, *[factor] * axes])
    ours = OPERATORS["", "Resize"].build(node)(x, None, scales)
    theirs = F.interpolate(x, scale_factor=factor, mode=mode, **({} if mode == "nearest" else {"align_corners": False}))
    torch.testing.assert_close(ours, theirs)
