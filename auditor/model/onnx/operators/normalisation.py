"""Normalisations; batch normalisation never changes its running statistics in place."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from auditor.model.onnx.graph import Node
from auditor.model.onnx.operators.registry import Function, UnsupportedError, builtin


@builtin("BatchNormalization")
def _batch_normalisation(node: Node) -> Function:
    epsilon, training = node.attributes.get("epsilon", 1e-5), bool(node.attributes.get("training_mode", 0))
    kept = node.attributes.get("momentum", 0.9)
    if not node.attributes.get("spatial", 1):
        raise UnsupportedError("BatchNormalization with statistics per pixel")

    def normalise(x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> Any:
        if training:
            y = F.batch_norm(x, None, None, scale, shift, True, 0.0, epsilon)
            if len(node.outputs) < 2:
                return y
            # What running statistics would become: values for whoever reads them, not a change of the buffers.
            axes = (0, *range(2, x.dim()))
            now, spread = x.detach().mean(axes), x.detach().var(axes, correction=0)
            return y, mean * kept + now * (1 - kept), variance * kept + spread * (1 - kept)
        if mean.grad_fn is not None or variance.grad_fn is not None:  # statistics that the graph computes itself
            mean, variance, scale, shift = (v.reshape(-1, *[1] * (x.dim() - 2)) for v in (mean, variance, scale, shift))
            return (x - mean) * torch.rsqrt(variance + epsilon) * scale + shift
        # Exporters merge equal numbers: a mean of zeros may be a bias, which trains.
        return F.batch_norm(x, mean.detach(), variance.detach(), scale, shift, False, 0.0, epsilon)

    return normalise


@builtin("InstanceNormalization")
def _instance_normalisation(node: Node) -> Function:
    epsilon = node.attributes.get("epsilon", 1e-5)
    return lambda x, scale, shift: F.group_norm(x, x.shape[1], scale, shift, epsilon)


@builtin("GroupNormalization")
def _group_normalisation(node: Node) -> Function:
    epsilon, groups = node.attributes.get("epsilon", 1e-5), node.attributes["num_groups"]

    def normalise(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        if scale.numel() != x.shape[1]:  # opset 18 has one scale a group, opset 21 one a channel
            scale, shift = (v.repeat_interleave(x.shape[1] // groups) for v in (scale, shift))
        return F.group_norm(x, groups, scale, shift, epsilon)

    return normalise


@builtin("LayerNormalization")
def _layer_normalisation(node: Node) -> Function:
    epsilon, axis = node.attributes.get("epsilon", 1e-5), node.attributes.get("axis", -1)
    statistics = any(node.outputs[1:3])

    def normalise(x: Tensor, scale: Tensor, shift: Tensor | None = None) -> Any:
        shape = x.shape[axis % x.dim() :]
        if scale.shape == shape and (shift is None or shift.shape == shape):
            y = F.layer_norm(x, shape, scale, shift, epsilon)
        else:
            y = F.layer_norm(x, shape, None, None, epsilon) * scale
            y = y if shift is None else y + shift
        if not statistics:
            return y
        axes = tuple(range(axis % x.dim(), x.dim()))
        mean = x.mean(axes, keepdim=True)
        return y, mean, torch.rsqrt((x - mean).square().mean(axes, keepdim=True) + epsilon)

    return normalise


@builtin("RMSNormalization")
def _rms_normalisation(node: Node) -> Function:
    epsilon, axis = node.attributes.get("epsilon", 1e-5), node.attributes.get("axis", -1)

    def normalise(x: Tensor, scale: Tensor) -> Tensor:
        axes = tuple(range(axis % x.dim(), x.dim()))
        return x * torch.rsqrt(x.square().mean(axes, keepdim=True) + epsilon) * scale

    return normalise


@builtin("LpNormalization")
def _lp_normalisation(node: Node) -> Function:
    axis, power = node.attributes.get("axis", -1), node.attributes.get("p", 2)
    return lambda x: x / torch.linalg.vector_norm(x, power, axis, keepdim=True).clamp_min(1e-12)


@builtin("LRN")
def _local_response_normalisation(node: Node) -> Function:
    size = node.attributes["size"]
    alpha, beta, bias = (node.attributes.get(k, d) for k, d in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))

    def normalise(x: Tensor) -> Tensor:
        below = (size - 1) // 2
        squares = F.pad(x.square().movedim(1, -1), (below, size - 1 - below)).unfold(-1, size, 1).sum(-1).movedim(-1, 1)
        return x / (bias + alpha / size * squares) ** beta

    return normalise


@builtin("MeanVarianceNormalization")
def _mean_variance_normalisation(node: Node) -> Function:
    axes = node.attributes.get("axes", (0, 2, 3))

    def normalise(x: Tensor) -> Tensor:
        centred = x - x.mean(axes, keepdim=True)
        return centred / (centred.square().mean(axes, keepdim=True).sqrt() + 1e-9)

    return normalise
