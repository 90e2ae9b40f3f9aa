"""Rotary position embeddings (RotaryEmbedding, opset 23 on; Su et al., arXiv 2104.09864)."""

import torch
from torch import Tensor

from auditor.model.onnx.graph import Node
from auditor.model.onnx.operators.registry import Function, builtin


@builtin("RotaryEmbedding")
def _rotary_embedding(node: Node) -> Function:
    attributes = node.attributes
    heads, rotated = attributes.get("num_heads", 0), attributes.get("rotary_embedding_dim", 0)
    interleaved = bool(attributes.get("interleaved", 0))

    def rotate(x: Tensor, cosine: Tensor, sine: Tensor, positions: Tensor | None = None) -> Tensor:
        # (batch, position, head, feature) from (batch, head, position, feature) or (batch, position, features)
        tokens = x.transpose(1, 2) if x.dim() == 4 else x.reshape(*x.shape[:2], heads, -1)
        width = rotated or tokens.shape[-1]
        turning, still = tokens[..., :width], tokens[..., width:]
        if positions is not None:
            cosine, sine = cosine[positions.long()], sine[positions.long()]
        cosine, sine = cosine.unsqueeze(2), sine.unsqueeze(2)
        if interleaved:
            a, b = turning[..., 0::2], turning[..., 1::2]
        else:
            a, b = turning.chunk(2, -1)
        real, imaginary = cosine * a - sine * b, sine * a + cosine * b
        if interleaved:
            turned = torch.stack([real, imaginary], -1).flatten(-2)
        else:
            turned = torch.cat([real, imaginary], -1)
        y = torch.cat([turned, still], -1)
        return y.transpose(1, 2) if x.dim() == 4 else y.reshape(x.shape)

    return rotate
