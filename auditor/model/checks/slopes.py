"""Whether slopes reach everything that an attacker can compute: parameters that are read, and the pixels."""

from collections.abc import Iterator, Set
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import BackwardCFunction

from auditor.model.video import VideoModel
from auditor.records import record
from auditor.text import printable

SHOWN = 3
NO_CHANGE = 1e-6
# Clamping leaves a few pixels of noise a slope. Pools and dead units take it from many pixels too, hardly from as many.
MOSTLY = 0.9


@record
class Unseen:
    """What slopes do not show of a network.

    Attributes
    ----------
    blind
        Why derivatives by pixels are nothing although an update depends on the clip, each as a sentence; attacks and
        exposure that follow slopes find nothing then, whatever an update holds.
    cut
        What else slopes miss, each as a sentence.
    without_gradient
        Numbers in parameters that are read but get no gradient.
    """

    blind: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()
    without_gradient: int = 0


def unseen(
    model: VideoModel,
    clip: Float[Tensor, "1 frame channel height width"],
    read: Set[str],
    logits: Float[Tensor, "1 ..."],
) -> Unseen:
    """Return what slopes do not show of a network.

    A part that runs under `torch.no_grad()` or behind `detach()`, or rounds, has no slope here, unless derivatives see
    through it (`cuts.seen_through`); whoever holds the model can still compute what goes in and out of it. `logits` are
    of a pass over the clip, which needs a gradient, and `read` names the parameters that it read. What that pass kept
    is used up.
    """
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    if not logits.requires_grad:
        return Unseen(
            blind=(
                "The logits have no slope at all (torch.no_grad or detach in forward): no gradient can be computed.",
            )
        )
    loss = torch.nn.functional.softplus(logits).sum()
    read = read & parameters.keys()
    try:
        slopes = torch.autograd.grad(loss, [clip, *parameters.values()], allow_unused=True)
    except RuntimeError as error:  # a function of the forward pass has no derivative
        reason = printable(str(error).split("\n")[0], 200)
        return Unseen(blind=(f"Derivatives by pixels cannot be computed, though clients need none: {reason}.",))
    found = [name for name, slope in zip(parameters, slopes[1:], strict=True) if slope is None and name in read]
    cut: tuple[str, ...] = ()
    if found:
        shown = ", ".join(f"'{printable(name, 60)}'" for name in found[:SHOWN])
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        cut = (
            f"{len(found)} of {len(parameters)} parameters are read but get no gradient, as forward cuts it "
            f"(torch.no_grad or detach): {shown}{more}. Nobody trains them; an attacker who holds them can still "
            "compute through them, which is not done here.",
        )
    pixels = torch.zeros_like(clip) if slopes[0] is None else slopes[0]
    return Unseen(
        blind=_blind(model, clip.detach(), logits.detach(), pixels),
        cut=cut,
        without_gradient=sum(parameters[name].numel() for name in found),
    )


def _blind(model: VideoModel, clip: Tensor, logits: Tensor, slope: Tensor) -> tuple[str, ...]:
    """Return what to say of whole clips, frames or channels that have no slope although logits depend on them."""
    flat = slope == 0
    if bool(flat.all()):
        if not _depends(model, clip, logits, flat):
            return ()
        return (
            "The logits change with the clip but have no slope in its pixels: forward rounds, or cuts the gradient "
            "(torch.no_grad, detach, NumPy) before the first layer that trains. What attacks and exposure compute from "
            "slopes is nothing then, though an update may hold the clip.",
        )
    if float(flat.float().mean()) > MOSTLY and _depends(model, clip, logits, flat):
        return (
            f"{float(flat.float().mean()):.0%} of the pixels of noise change the logits but have no slope: forward "
            "clamps or rounds them, or cuts their gradient. What attacks and exposure compute from slopes leaves them "
            "out, though an update may hold them.",
        )
    for name, axis in (("frames", 1), ("channels", 2)):
        without = flat.movedim(axis, 0).flatten(1).all(1)
        if not bool(without.any()):
            continue
        shape = [1] * flat.dim()
        shape[axis] = -1
        if _depends(model, clip, logits, without.reshape(shape).expand_as(flat)):
            return (
                f"{int(without.sum())} of {len(without)} {name} change the logits but have no slope: forward rounds "
                "them, or cuts their gradient. What attacks and exposure compute from slopes leaves them out, though "
                "an update may hold them.",
            )
    return ()


def _depends(model: VideoModel, clip: Tensor, logits: Tensor, where: Tensor) -> bool:
    """Tell whether logits change when the pixels of a mask are inverted."""
    with torch.no_grad():
        other = model(torch.where(where, 1 - clip, clip))
    return float((other - logits).abs().max()) > NO_CHANGE * float(logits.abs().max().clamp(min=1e-3))


def own_functions(logits: Tensor) -> dict[str, bool]:
    """Return the names of the functions in the graph of `logits` whose derivative Python code defines.

    True for those that their author marked as differentiable once only.
    """
    found: dict[str, bool] = {}
    for node in nodes(logits.grad_fn):
        if isinstance(node, BackwardCFunction):
            function = getattr(node, "_forward_cls", None)
            name = printable(getattr(function, "__name__", type(node).__name__), 60)
            found[name] = getattr(getattr(function, "backward", None), "__code__", None) is _ONCE
    return found


def nodes(root: Any) -> Iterator[Any]:
    """Yield the functions that autograd recorded, from `root` to the leaves, each once."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        waiting += [following for following, _ in node.next_functions]


@torch.autograd.function.once_differentiable
def _marked(_: Any) -> None:
    """Show what the mark looks like."""


_ONCE = _marked.__code__
