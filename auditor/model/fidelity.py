"""Checks on the gradients themselves: first derivatives against finite differences, second derivatives at all."""

import copy
import math
import time

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.model.video import VideoModel

LARGEST_IN_DOUBLE = 512 * 2**20
PARAMETERS_CHECKED = 2
SLOWEST_FORWARD = 2.0
# Central differences err by h^2 and by rounding over h; where a ReLU switches inside the step they err by more, so a
# second step is tried before a difference counts.
STEPS = {torch.float64: (1e-6, 1e-5), torch.float32: (1e-2, 3e-3)}
GOOD = {torch.float64: 1e-5, torch.float32: 1e-2}


def gradient_error(model: VideoModel, clip: Float[Tensor, "1 frame channel height width"], seed: int) -> float | None:
    """Return the relative error of directional derivatives against central finite differences.

    Two random parameters, each along a random direction, in float64 (float32 where a float64 copy would not fit or the
    network insists on float32: there the differences themselves are good to about 1e-2). None if nothing could be
    measured, or one forward pass takes so long that a dozen in float64 would take minutes.
    """
    start = time.monotonic()
    with torch.no_grad():
        model(clip)
    if time.monotonic() - start > SLOWEST_FORWARD:
        return None
    dtypes = [torch.float64, torch.float32]
    if sum(p.numel() for p in model.parameters()) * 8 > LARGEST_IN_DOUBLE:
        dtypes = [torch.float32]
    for dtype in dtypes:
        try:
            network = copy.deepcopy(model.network).to(dtype)
            twin = VideoModel(network, model.spec, model.substitutes, model.pool)
            error = _directional_error(twin, clip.to(dtype), dtype, seed)
        except (RuntimeError, TypeError, ValueError):  # a cast to float32 inside the network
            continue
        return error
    return None


def _directional_error(model: VideoModel, clip: Tensor, dtype: torch.dtype, seed: int) -> float | None:
    generator = torch.Generator().manual_seed(seed)
    logits = model(clip)
    weights = torch.randn(logits.shape, generator=generator, dtype=torch.float64).to(logits)
    parameters = list(model.parameters())
    gradients = torch.autograd.grad((logits * weights).sum(), parameters, allow_unused=True)
    order = torch.randperm(len(parameters), generator=generator).tolist()
    used = [i for i in order if gradients[i] is not None and bool(gradients[i].any())]
    worst = None
    for i in used[:PARAMETERS_CHECKED]:
        parameter, gradient = parameters[i], gradients[i]
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter)
        # Half of the direction is the gradient's own, so that the derivative is far above rounding.
        direction = direction / direction.norm() + gradient / gradient.norm()
        slope = float((gradient * direction).sum())
        errors = []
        for step in STEPS[dtype]:
            h = step * max(float(parameter.detach().norm()), 1e-3) / float(direction.norm())
            rise = _value(model, clip, weights, parameter, direction, h) - _value(
                model, clip, weights, parameter, direction, -h
            )
            errors.append(abs(rise / (2 * h) - slope) / max(abs(slope), 1e-12))
            if errors[-1] < GOOD[dtype]:
                break
        worst = max(worst or 0.0, min(errors))
    return worst


def _value(model: VideoModel, clip: Tensor, weights: Tensor, parameter: Tensor, direction: Tensor, h: float) -> float:
    with torch.no_grad():
        kept = parameter.clone()
        parameter.add_(direction, alpha=h)
        value = float((model(clip) * weights).sum(dtype=torch.float64))
        parameter.copy_(kept)
    return value


def second_derivative(model: VideoModel, clip: Float[Tensor, "1 frame channel height width"]) -> str:
    """Differentiate the squared norm of the gradient by the clip; return an empty text, or why that failed."""
    clip = clip.clone().requires_grad_()
    parameters = list(model.parameters())
    try:
        logits = model(clip)
        loss = torch.nn.functional.cross_entropy(
            logits, torch.zeros(logits.shape[0], dtype=torch.int64, device=logits.device)
        )
        gradients = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
        squares = [gradient.square().sum() for gradient in gradients if gradient is not None]
        if not squares:
            return "no parameter influences the output"
        (second,) = torch.autograd.grad(sum(squares[1:], squares[0]), clip, allow_unused=True)
    except (RuntimeError, NotImplementedError) as error:
        return str(error).split("\n")[0]
    if second is None:
        return "the gradient does not depend on the clip"
    return "" if math.isfinite(float(second.sum())) else "second derivatives are not finite"
