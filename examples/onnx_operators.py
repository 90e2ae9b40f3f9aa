"""Operators of your own for ONNX files that use some which fl-audit does not know.

Usage: fl-audit scan model.onnx --onnx-ops examples/onnx_operators.py

Each function reads a node's attributes once and returns what runs at every call, made of torch operations that can be
differentiated twice. `weights` tells which inputs clients train.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from auditor import operator


@operator("GatedConv", domain="com.example", weights=(1, 2))
def gated_conv(attributes: Mapping[str, Any]) -> Callable[..., Tensor]:
    """Build a 3-D convolution whose second half of channels gates the first (after Dauphin et al. 2017)."""
    stride, padding = attributes.get("strides", (1, 1, 1)), attributes.get("padding", 0)

    def forward(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        value, gate = torch.nn.functional.conv3d(x, weight, bias, stride, padding).chunk(2, 1)
        return value * torch.sigmoid(gate)

    return forward


@operator("TemporalShift", domain="com.example", numbers=(1,))
def temporal_shift(attributes: Mapping[str, Any]) -> Callable[..., Tensor]:
    """Build a shift of part of the channels by one frame (after Lin et al. 2019); input 1 holds how many."""
    backwards = bool(attributes.get("backwards", 0))

    def forward(x: Tensor, channels: tuple[int, ...]) -> Tensor:
        moving, still = x[:, : channels[0]], x[:, channels[0] :]
        nothing = torch.zeros_like(moving[:, :, :1])
        parts = [moving[:, :, 1:], nothing] if backwards else [nothing, moving[:, :, :-1]]
        return torch.cat([torch.cat(parts, 2), still], 1)

    return forward
