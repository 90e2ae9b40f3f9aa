"""Resize as one small matrix per axis: every mode is linear in the pixels, so first derivatives are exact."""

import math
from typing import Any

import torch
from torch import Tensor

from auditor.model.onnx.graph import Node
from auditor.model.onnx.operators.registry import Function, UnsupportedError, builtin, floats, integers


@builtin("Resize", "Upsample", numbers=(1, 2, 3))
def _resize(node: Node) -> Function:
    mode = node.attributes.get("mode", "nearest")
    policy = node.attributes.get("keep_aspect_ratio_policy", "stretch")
    crop = node.attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    old = node.operator == "Upsample"
    cache: dict[Any, tuple[Tensor, Tensor | None]] = {}

    def resize(x: Tensor, roi: Any = None, scales: Any = None, sizes: Any = None) -> Tensor:
        if old:
            scales = node.attributes.get("scales", roi)
        factors, extents = floats(scales), integers(sizes) or ()
        over = node.attributes.get("axes") or tuple(range(len(extents or factors)))
        region = floats(roi) if crop else ()
        if extents and policy != "stretch":
            ratios = [wanted / x.shape[axis] for wanted, axis in zip(extents, over, strict=True)]
            common = min(ratios) if policy == "not_larger" else max(ratios)
            extents = tuple(math.floor(common * x.shape[axis] + 0.5) for axis in over)
            factors = (common,) * len(over)
        for i, axis in enumerate(over):
            size = x.shape[axis]
            bounds = (region[i], region[i + len(over)]) if crop else (0.0, 1.0)
            target = extents[i] if extents else math.floor(size * (bounds[1] - bounds[0]) * factors[i])
            factor = factors[i] if factors else target / size
            if target == size and factor == 1.0 and bounds == (0.0, 1.0):
                continue
            # The batch and channel axes are never resized; a file that fixed its batch may say otherwise.
            if extents and axis == 0:
                continue
            key = (size, target, factor, bounds, x.dtype, x.device)
            if key not in cache:
                source = _source(node, target, size, factor, bounds, old)
                outside = (source < 0) | (source > size - 1)
                cache[key] = (
                    _matrix(node, mode, size, source, factor, old).to(x),
                    outside.to(x.device) if crop and bool(outside.any()) else None,
                )
            matrix, beyond = cache[key]
            x = x.movedim(axis, -1) @ matrix
            if beyond is not None:
                x = torch.where(beyond, x.new_tensor(node.attributes.get("extrapolation_value", 0.0)), x)
            x = x.movedim(-1, axis)
        return x

    return resize


def _source(node: Node, target: int, size: int, factor: float, bounds: tuple[float, float], old: bool) -> Tensor:
    """Return where each output pixel lies among the input pixels."""
    x = torch.arange(target, dtype=torch.float64)
    how = (
        "asymmetric"
        if old
        else node.attributes.get("coordinate_transformation_mode", "half_pixel" if node.opset >= 11 else "asymmetric")
    )
    if how == "asymmetric":
        return x / factor
    if how == "align_corners":
        return x * (size - 1) / (target - 1) if target > 1 else torch.zeros_like(x)
    if how == "tf_crop_and_resize":
        begin, end = bounds
        if target <= 1:
            return torch.full_like(x, 0.5 * (begin + end) * (size - 1))
        return begin * (size - 1) + x * (end - begin) * (size - 1) / (target - 1)
    if how == "pytorch_half_pixel" and target <= 1:
        return torch.zeros_like(x)
    if how == "half_pixel_symmetric":
        adjustment = target / (factor * size)
        return size / 2 * (1 - adjustment) + (x + 0.5) / factor - 0.5
    if how in ("half_pixel", "pytorch_half_pixel"):
        return (x + 0.5) / factor - 0.5
    raise UnsupportedError(f"Resize with coordinates {how}")


def _matrix(node: Node, mode: str, size: int, source: Tensor, factor: float, old: bool) -> Tensor:
    """Return the (size, target) matrix of one axis."""
    target = len(source)
    matrix = torch.zeros(size, target, dtype=torch.float64)
    columns = torch.arange(target)
    if mode == "nearest":
        rounding = "floor" if old else node.attributes.get("nearest_mode", "round_prefer_floor")
        rows = {
            "round_prefer_floor": torch.ceil(source - 0.5),
            "round_prefer_ceil": torch.floor(source + 0.5),
            "floor": torch.floor(source),
            "ceil": torch.ceil(source),
        }[rounding]
        matrix[rows.clamp(0, size - 1).long(), columns] = 1
        return matrix
    stretch = min(1.0, factor) if node.attributes.get("antialias", 0) else 1.0
    reach = math.ceil((1 if mode in ("linear", "bilinear") else 2) / stretch)
    base = torch.floor(source)
    a = node.attributes.get("cubic_coeff_a", -0.75)
    exclude = bool(node.attributes.get("exclude_outside", 0))
    weights, rows_all = [], []
    for offset in range(-reach + 1, reach + 1):
        rows = base + offset
        distance = ((rows - source) * stretch).abs()
        if mode in ("linear", "bilinear"):
            weight = (1 - distance).clamp_min(0)
        elif mode == "cubic":
            near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
            far = a * distance**3 - 5 * a * distance**2 + 8 * a * distance - 4 * a
            weight = torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))
        else:
            raise UnsupportedError(f"Resize in mode {mode}")
        if exclude:
            weight = torch.where((rows < 0) | (rows >= size), 0.0, weight)
        weights.append(weight)
        rows_all.append(rows.clamp(0, size - 1).long())
    total = sum(weights[1:], weights[0])
    for rows, weight in zip(rows_all, weights, strict=True):
        matrix.index_put_((rows, columns), weight / total, accumulate=True)
    return matrix
