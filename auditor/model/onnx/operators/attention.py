"""The Attention operator (opset 23 on) as softmax(Q K') V: fused kernels lack second derivatives."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from auditor.model.onnx.graph import Node
from auditor.model.onnx.operators.registry import Function, builtin


@builtin("Attention")
def _attention(node: Node) -> Function:
    attributes = node.attributes
    causal, softcap = bool(attributes.get("is_causal", 0)), attributes.get("softcap", 0.0)
    scale, stage = attributes.get("scale"), attributes.get("qk_matmul_output_mode", 0)

    window = attributes.get("left_window_size", -1), attributes.get("right_window_size", -1)

    def split_heads(x: Tensor, heads: int) -> Tensor:
        return x if x.dim() == 4 else x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)

    def attend(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None = None,
        past_key: Tensor | None = None,
        past_value: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        joined = query.dim() == 3
        q = split_heads(query, attributes.get("q_num_heads", 1))
        k, v = (split_heads(x, attributes.get("kv_num_heads", 1)) for x in (key, value))
        past = 0
        if past_key is not None and past_value is not None:
            past = past_key.shape[2]
            k, v = torch.cat([past_key, k], 2), torch.cat([past_value, v], 2)
        present_key, present_value = k, v
        if k.shape[1] != q.shape[1]:
            repeat = q.shape[1] // k.shape[1]
            k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
        factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
        raw = (q * factor) @ k.transpose(-1, -2)
        bias = _bias(q, k, mask, causal, window, past, lengths)
        capped = softcap * torch.tanh(raw / softcap) if softcap else raw
        masked = capped if bias is None else capped + bias
        weights = torch.softmax(masked, -1)
        if bias is not None:  # a row that may look at nothing gives zeros, not NaN
            weights = torch.where(torch.isneginf(bias).all(-1, keepdim=True), torch.zeros_like(weights), weights)
        y = weights @ v
        y = y.transpose(1, 2).flatten(2) if joined else y
        return y, present_key, present_value, (raw, capped, masked, weights)[stage]

    return attend


def _bias(
    q: Tensor,
    k: Tensor,
    mask: Tensor | None,
    causal: bool,
    window: tuple[int, int],
    past: int,
    lengths: Tensor | None,
) -> Tensor | None:
    """Return what is added to the scores: zero where a query may look, minus infinity where it may not."""
    bias = None
    rows, columns = q.shape[2], k.shape[2]
    minus = float("-inf")
    if mask is not None:
        bias = q.new_zeros(mask.shape).masked_fill(~mask, minus) if mask.dtype == torch.bool else mask
        if bias.shape[-1] < columns:
            bias = F.pad(bias, (0, columns - bias.shape[-1]), value=minus)
    column = torch.arange(columns, device=q.device)
    row = torch.arange(rows, device=q.device)[:, None] + past
    hidden = torch.zeros(rows, columns, dtype=torch.bool, device=q.device)
    if lengths is not None:
        ends = lengths.to(q.device)[:, None, None, None]
        row = row + ends - rows
        hidden = hidden | (column >= ends)
    if causal:
        hidden = hidden | (column > row)
    left, right = window
    if left >= 0:
        hidden = hidden | (column < row - left)
    if right >= 0:
        hidden = hidden | (column > row + right)
    if lengths is None and not causal and left < 0 and right < 0:
        return bias
    barrier = q.new_zeros(hidden.shape).masked_fill(hidden, minus)
    return barrier if bias is None else bias + barrier
