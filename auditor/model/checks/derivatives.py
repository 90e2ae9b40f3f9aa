"""Checks on the gradients themselves: first derivatives against finite differences, second derivatives at all."""

import copy
import math

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.model.checks.slopes import own_functions
from auditor.model.onnx.tracing import NodeError
from auditor.model.two_part import TwoPart
from auditor.model.video import VideoModel

# Clips of more values are made smaller for checks, by the first of these factors that leaves a side long enough.
LARGE_CLIP = 3 * 8 * 64 * 64
SHRINK = (8, 4, 2)
SMALLEST_SIDE = 28
FEWEST_FRAMES = 8
LARGEST_IN_DOUBLE = 512 * 2**20
PARAMETERS_CHECKED = 2
# Central differences err by h^2 and by rounding over h; where a ReLU switches inside the step they err by more, so a
# second step is tried before a difference counts.
# The large steps are for parameters whose slope is so small (a layer scale of 1e-6) that rounding drowns small ones.
STEPS = {torch.float64: (1e-6, 1e-5, 1e-4, 1e-3, 1e-2), torch.float32: (1e-2, 3e-3)}
GOOD = {torch.float64: 1e-4, torch.float32: 1e-2}
# Steps of pixels are small, so that hardly a ReLU switches inside one.
STEPS_OF_CLIP = (1e-6, 1e-5, 1e-7)
WRONG_SECOND = 0.05
# Parameters without influence (the bias of attention's keys, which softmax cancels) have a gradient of rounding alone:
# below this share of the largest gradient there is nothing to compare.
ROUNDING = {torch.float64: 1e-11, torch.float32: 1e-5}


def smaller_clip(
    model: VideoModel, clip: Float[Tensor, "1 frame channel height width"]
) -> Float[Tensor, "1 fewer channel smaller_height smaller_width"]:
    """Return a corner of a large clip that the network reads as well, or the clip itself.

    Derivatives are checked on it: the functions that are differentiated are the same at every size, and at 16x112x112
    the checks would take longer than everything else in loading. Half of many frames do where the network takes them.
    Networks whose size is fixed (position embeddings, a head on all features) get the whole clip. Whoever uses it has
    to say so.
    """
    if clip.numel() <= LARGE_CLIP:
        return clip
    height, width = clip.shape[-2:]
    with torch.no_grad():
        for factor in SHRINK:
            if height % factor or width % factor or min(height, width) // factor < SMALLEST_SIDE:
                continue
            for frames in (clip.shape[1] // 2, clip.shape[1]):
                if frames < min(FEWEST_FRAMES, clip.shape[1]):
                    continue
                corner = clip[:, :frames, :, : height // factor, : width // factor].contiguous()
                try:
                    logits = model(corner)
                except (NodeError, RuntimeError, ValueError, TypeError, LookupError, AssertionError):
                    continue  # the network wants its own size
                if logits.shape[0] == 1 and bool(torch.isfinite(logits).all()):
                    return corner
    return clip


def gradient_error(
    model: VideoModel, clip: Float[Tensor, "1 frame channel height width"], seed: int, count: int = PARAMETERS_CHECKED
) -> float | None:
    """Return the relative error of directional derivatives against central finite differences.

    `count` random parameters, each along a random direction, in float64 (float32 where a float64 copy would not fit or
    the network insists on float32: there the differences themselves are good to about 1e-2). One parameter is checked
    in float32 and in place: that is for networks whose passes take seconds. None if nothing could be measured.
    """
    if isinstance(model.network, TwoPart):  # the frozen extractor has no gradient to check
        with torch.no_grad():
            model = model.over(model.network.holding(model.prepare(clip)))
    dtypes = [torch.float64, torch.float32]
    if count == 1 or sum(p.numel() for p in model.parameters()) * 8 > LARGEST_IN_DOUBLE:
        dtypes = [torch.float32]
    for dtype in dtypes:
        try:
            twin = model if count == 1 else model.over(copy.deepcopy(model.network).to(dtype))
            error = _directional_error(twin, clip.to(dtype), dtype, seed, count)
        except (NodeError, RuntimeError, TypeError, ValueError):  # a cast to float32 inside the network
            continue
        return error
    return None


def _directional_error(model: VideoModel, clip: Tensor, dtype: torch.dtype, seed: int, count: int) -> float | None:
    generator = torch.Generator().manual_seed(seed)
    logits = model(clip)
    weights = torch.randn(logits.shape, generator=generator, dtype=torch.float64).to(logits)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad((logits * weights).sum(), parameters, allow_unused=True)
    order = torch.randperm(len(parameters), generator=generator).tolist()
    norms = [0.0 if gradient is None else float(gradient.norm()) for gradient in gradients]
    used = [i for i in order if norms[i] > ROUNDING[dtype] * max(norms)]
    worst = None
    for i in used[:count]:
        parameter, gradient = parameters[i], gradients[i]
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter)
        # Half of the direction is the gradient's own, so that the derivative is far above rounding.
        direction = direction / direction.norm()
        if float((direction * gradient).sum()) < 0:  # a single number would cancel out
            direction = -direction
        direction = direction + gradient / gradient.norm()
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
    """Differentiate the squared norm of the gradient by the clip; return an empty text, or why that failed.

    Where Python code of the network's own defines derivatives, the result is compared with finite differences: such
    code often leaves out that its derivative depends on its input too.
    """
    clip = clip.clone().requires_grad_()
    try:
        logits = model(clip)
        own = own_functions(logits)
        once = next((name for name, marked in own.items() if marked), "")
        if once:
            return f"the function {once} is differentiable once only"
        total = _squared_norm(model, logits)
        if total is None:
            return "no parameter influences the output"
        (second,) = torch.autograd.grad(total, clip, allow_unused=True)
    except (RuntimeError, NotImplementedError) as error:
        return str(error).split("\n")[0]
    if second is None:
        return "the gradient has no slope in the pixels"
    if not math.isfinite(float(second.sum())):
        return "second derivatives are not finite"
    off = _second_error(model, clip.detach()) if own else None
    if off is not None and off > WRONG_SECOND:
        return f"they disagree with finite differences{_by(off)}, as {next(iter(own))} defines derivatives of its own"
    return ""


def _by(off: float) -> str:
    return f" by {off:.0%}" if off < 10 else ""  # against no slope at all any difference is without end


def _squared_norm(model: VideoModel, logits: Tensor) -> Tensor | None:
    """Return the squared norm of the gradient of a curved function of the outputs; None if there is no gradient."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # Any curved function will do, and this one has a gradient for a single output too.
    loss = torch.nn.functional.softplus(logits).mean()
    gradients = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
    squares = [gradient.square().sum() for gradient in gradients if gradient is not None]
    return sum(squares[1:], squares[0]) if squares else None


def _second_error(model: VideoModel, clip: Tensor) -> float | None:
    """Return the relative error of the derivative of the gradient's squared norm along a random change of the clip.

    In float64; None where the network does not run in it.
    """
    try:
        twin = model.over(copy.deepcopy(model.network).double())
        x = clip.double().requires_grad_()
        total = _squared_norm(twin, twin(x))
        assert total is not None
        (second,) = torch.autograd.grad(total, x)
        direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(x)
        slope = float((second * direction).sum())
        errors = []
        for h in STEPS_OF_CLIP:
            ends = [_squared_norm(twin, twin(x.detach() + sign * h * direction)) for sign in (1, -1)]
            rise = float(sum(sign * end.detach() for sign, end in zip((1, -1), ends, strict=True) if end is not None))
            errors.append(abs(rise / (2 * h) - slope) / max(abs(slope), 1e-12))
    except (RuntimeError, TypeError, ValueError):
        return None
    return min(errors)
