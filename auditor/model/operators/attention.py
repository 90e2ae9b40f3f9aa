"""The Attention operator (opset 23 on) as softmax(Q K') V: fused kernels lack second derivatives."""

import math

import torch
from torch import Tensor

from auditor.model.graph import Node
from auditor.model.operators.registry import Function, operator


@operator("Attention")
def _attention(node: Node) -> Function:
    attributes = node.attributes
    causal, softcap = bool(attributes.get("is_causal", 0)), attributes.get("softcap", 0.0)
    scale, stage = attributes.get("scale"), attributes.get("qk_matmul_output_mode", 0)

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
        bias = _bias(q, k, mask, causal, past, lengths)
        masked = raw if bias is None else raw + bias
        capped = softcap * torch.tanh(masked / softcap) if softcap else masked
        if softcap and bias is not None:  # the mask must survive the cap
            capped = softcap * torch.tanh(raw / softcap) + bias
        weights = torch.softmax(capped, -1)
        seen = (raw, masked, capped, weights)[stage]
        if stage == 1 and softcap:
            seen = softcap * torch.tanh(raw / softcap)
        if stage == 2:
            seen = capped
        y = weights @ v
        y = y.transpose(1, 2).flatten(2) if joined else y
        return y, present_key, present_value, seen

    return attend


def _bias(q: Tensor, k: Tensor, mask: Tensor | None, causal: bool, past: int, lengths: Tensor | None) -> Tensor | None:
    bias = None
    rows, columns = q.shape[2], k.shape[2]
    minus = float("-inf")
    if mask is not None:
        bias = q.new_zeros(mask.shape).masked_fill(~mask, minus) if mask.dtype == torch.bool else mask
        if bias.shape[-1] < columns:
            bias = torch.nn.functional.pad(bias, (0, columns - bias.shape[-1]), value=minus)
    column = torch.arange(columns, device=q.device)
    if lengths is not None:
        beyond = column[None, :] >= lengths.to(q.device)[:, None]
        bias = (0 if bias is None else bias) + q.new_zeros(beyond.shape).masked_fill(beyond, minus)[:, None, None]
    if causal:
        row = torch.arange(rows, device=q.device)[:, None] + past
        if lengths is not None:
            row = (lengths.to(q.device)[:, None, None] - rows + torch.arange(rows, device=q.device)[:, None])[:, None]
        future = column > row
        bias = (0 if bias is None else bias) + q.new_zeros(future.shape).masked_fill(future, minus)
    return bias
