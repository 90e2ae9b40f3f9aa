"""Solutions of least norm on every device, against NumPy."""

import emulated_device
import numpy as np
import pytest
import torch

from auditor.solvers.least_norm import least_norm


@pytest.mark.parametrize("shape", [(9, 4), (4, 9), (6, 6)])
@pytest.mark.parametrize("device", ["cpu", *emulated_device.DEVICES])
def test_it_is_numpys_where_rank_is_missing(shape, device):
    generator = torch.Generator().manual_seed(0)
    thin = [torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in shape]
    matrix, right = thin[0] @ thin[1].T, torch.randn(shape[0], 2, generator=generator, dtype=torch.float64)
    expected = np.linalg.lstsq(matrix.numpy(), right.numpy(), rcond=1e-12)[0]
    found = least_norm(matrix.to(device), right.to(device))
    np.testing.assert_allclose(found.cpu().numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("device", ["cpu", *emulated_device.DEVICES])
def test_it_is_the_least_of_many_solutions(device):
    # The reason for this module: drivers of GPUs take full rank for granted, and raise or not as rounding has it.
    matrix, right = torch.ones(3, 2, dtype=torch.float64), torch.ones(3, 1, dtype=torch.float64)
    found = least_norm(matrix.to(device), right.to(device))
    assert torch.allclose(found.cpu(), torch.full((2, 1), 0.5, dtype=torch.float64))
