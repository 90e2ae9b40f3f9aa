"""Least squares where the matrix may lack full rank, on every device."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor


def least_norm(
    matrix: Float[Tensor, "row column"],
    right: Float[Tensor, "row right"],
    driver: Literal["gelsy", "gelsd"] = "gelsy",
) -> Float[Tensor, "column right"]:
    """Return the solution of least norm; singular values below rounding, as LAPACK counts it, stand for zero.

    `driver` is LAPACK's, for the CPU. GPUs have none for such matrices: `torch.linalg.lstsq` takes full rank for
    granted there and returns anything else than the solution where it is missing. They take the pseudo-inverse.
    """
    if matrix.device.type == "cpu":
        return torch.linalg.lstsq(matrix, right, driver=driver).solution
    return torch.linalg.pinv(matrix, rtol=torch.finfo(matrix.dtype).eps * max(matrix.shape)) @ right
