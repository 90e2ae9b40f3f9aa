"""Matrix products."""

import torch
import torch.nn.functional as F
from torch import Tensor

from auditor.model.onnx.graph import Node
from auditor.model.onnx.operators.registry import Function, builtin, simple

simple("MatMul", torch.matmul)
simple("Det", torch.linalg.det)


@builtin("Gemm")
def _general_product(node: Node) -> Function:
    alpha, beta = node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)
    flip_a, flip_b = node.attributes.get("transA", 0), node.attributes.get("transB", 0)

    def product(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        if flip_b and not flip_a and alpha == 1 and beta == 1 and (c is None or c.dim() == 1):
            return F.linear(a, b, c)
        a, b = a.t() if flip_a else a, b.t() if flip_b else b
        if c is None:
            return a @ b if alpha == 1 else alpha * (a @ b)
        return torch.addmm(c, a, b, beta=beta, alpha=alpha)

    return product


@builtin("Einsum")
def _einsum(node: Node) -> Function:
    equation = node.attributes["equation"]
    return lambda *operands: torch.einsum(equation, *operands)
