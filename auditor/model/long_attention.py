"""Attention over many tokens that keeps no scores for its gradient, and still has second derivatives."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

# Scores of one call, in bytes, below which they are simply kept: 1182 tokens in 12 heads of float32.
MOST_SCORES = 2**26
_FUSED = (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)


class LongAttention(torch.autograd.Function):
    """softmax(q k' scale) v from inputs `(..., token, feature)`.

    The gradient computes the scores again, one head at a time (Rabe & Staats 2021, arXiv 2112.05682), by operations
    that can be differentiated themselves: torch's fused attention keeps no scores either, but has no second derivative.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Float[Tensor, "*head token feature"],
        key: Float[Tensor, "*head other feature"],
        value: Float[Tensor, "*head other channel"],
        scale: float,
    ) -> Float[Tensor, "*head token channel"]:
        """Return what every token reads of the others."""
        ctx.save_for_backward(query, key, value)
        ctx.scale = scale
        with sdpa_kernel(list(_FUSED)):
            return F.scaled_dot_product_attention(query, key, value, scale=scale)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Return the loss's gradient by query, key and value."""
        read = ctx.saved_tensors
        heads = (x.reshape(-1, *x.shape[-2:]) for x in (*read, cotangents[0]))
        apart = [_backward_of_a_head(q, k, v, c, ctx.scale) for q, k, v, c in zip(*heads, strict=True)]
        query, key, value = (torch.stack(g).view_as(x) for g, x in zip(zip(*apart, strict=True), read, strict=True))
        return query, key, value, None


def _backward_of_a_head(
    query: Tensor, key: Tensor, value: Tensor, cotangent: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    shares = (query @ key.T * scale).softmax(-1)
    by_share = cotangent @ value.T
    by_score = shares * (by_share - (shares * by_share).sum(-1, keepdim=True)) * scale
    return by_score @ key, by_score.T @ query, shares.T @ cotangent


class LongSequences(TorchFunctionMode):
    """While active, attention over many tokens keeps no scores; shorter sequences run as they stand."""

    def __torch_function__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function, or `LongAttention` in its place."""
        kwargs = kwargs or {}
        if function is F.scaled_dot_product_attention and _applies(*args, **kwargs):
            scale = kwargs.get("scale")
            return LongAttention.apply(*args[:3], args[0].shape[-1] ** -0.5 if scale is None else scale)
        return function(*args, **kwargs)


def scores_between(query: Tensor, key: Tensor) -> int:
    """Return how many scores there are between queries and keys."""
    return query.shape[:-1].numel() * key.shape[-2]


def _applies(
    query: Tensor,
    key: Tensor | None = None,
    value: Tensor | None = None,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> bool:
    if key is None or value is None or attn_mask is not None or dropout_p > 0.0 or is_causal or enable_gqa:
        return False
    alike = query.shape[:-2] == key.shape[:-2] == value.shape[:-2]
    return alike and scores_between(query, key) * query.element_size() > MOST_SCORES
