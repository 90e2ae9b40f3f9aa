"""Whether slopes reach everything that an attacker can compute: parameters that are read, and the pixels."""

from collections.abc import Iterator, Set
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import BackwardCFunction

from auditor.model.two_part import TwoPart
from auditor.model.video import VideoModel
from auditor.text import printable

SHOWN = 3
NO_CHANGE = 1e-6


def unseen(
    model: VideoModel,
    clip: Float[Tensor, "1 frame channel height width"],
    read: Set[str],
    logits: Float[Tensor, "1 ..."],
) -> list[str]:
    """Return what slopes do not show of a network, each as a sentence: none where they show all.

    A part that runs under `torch.no_grad()` or behind `detach()`, or rounds, has no slope here; whoever holds the
    model can still compute what goes in and out of it. `logits` are of a pass over the clip, which needs a gradient;
    `read` names the parameters that it read. What that pass kept is used up.
    """
    if isinstance(model.network, TwoPart):  # its extractor is frozen, and attacks know how to go through it
        return []
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    if not logits.requires_grad:
        return ["The logits have no slope at all (torch.no_grad or detach in forward): no gradient can be computed."]
    loss = torch.nn.functional.softplus(logits).sum()
    read = read & parameters.keys()
    slopes = torch.autograd.grad(loss, [clip, *parameters.values()], allow_unused=True)
    found = [name for name, slope in zip(parameters, slopes[1:], strict=True) if slope is None and name in read]
    told = []
    if found:
        shown = ", ".join(f"'{printable(name, 60)}'" for name in found[:SHOWN])
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        told.append(
            f"{len(found)} of {len(parameters)} parameters are read but get no gradient, as forward cuts it "
            f"(torch.no_grad or detach): {shown}{more}. Nobody trains them; an attacker who holds them can still "
            "compute through them, which is not done here."
        )
    if (slopes[0] is None or not bool(slopes[0].any())) and _depends(model, clip.detach(), logits.detach()):
        told.append(
            "The logits change with the clip but have no slope in its pixels: forward rounds, or cuts the gradient "
            "(torch.no_grad, detach) before the first layer that trains. What attacks and exposure compute from slopes "
            "is nothing then, though an update may hold the clip."
        )
    return told


def _depends(model: VideoModel, clip: Tensor, logits: Tensor) -> bool:
    with torch.no_grad():
        other = model(1 - clip)
    return float((other - logits).abs().max()) > NO_CHANGE * float(logits.abs().max().clamp(min=1e-3))


def own_functions(logits: Tensor) -> dict[str, bool]:
    """Return the names of the functions in the graph of `logits` whose derivative Python code defines.

    True for those that their author marked as differentiable once only.
    """
    found: dict[str, bool] = {}
    for node in _nodes(logits.grad_fn):
        if isinstance(node, BackwardCFunction):
            function = getattr(node, "_forward_cls", None)
            name = printable(getattr(function, "__name__", type(node).__name__), 60)
            found[name] = getattr(getattr(function, "backward", None), "__code__", None) is _ONCE
    return found


def _nodes(root: Any) -> Iterator[Any]:
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
