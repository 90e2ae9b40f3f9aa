"""Processors compute with all digits of float32, the same way every time, without denormals, and results say so."""

import pytest
import torch

from auditor.pipeline.documents.environment import environment_block
from auditor.pipeline.scan import choose_device
from auditor.records.arithmetic import arithmetic_block


@pytest.fixture(autouse=True)
def _flags_as_they_were():
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic
    yield
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = before
    torch.set_flush_denormal(True)


def test_choosing_a_device_switches_short_factors_off():
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    choose_device("cpu")
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.deterministic


def test_results_tell_how_numbers_were_rounded():
    found = environment_block(torch.device("cpu"))
    assert {"device", "threads", "blas", "cpu_capability"} <= found.keys()
    choose_device("cpu")
    assert arithmetic_block(torch.device("cuda"))["tf32"] == "off"
    torch.backends.cudnn.allow_tf32 = True
    assert arithmetic_block(torch.device("cuda"))["tf32"] == "on"


def test_choosing_a_device_takes_denormal_numbers_for_zero():
    torch.set_flush_denormal(False)
    denormal = torch.full((64,), 2.0**-130)
    assert arithmetic_block(torch.device("cpu"))["denormals"] == "kept"
    assert float((denormal * 2.0).max()) > 0.0
    choose_device("cpu")
    assert arithmetic_block(torch.device("cpu"))["denormals"] == "flushed"
    assert float((denormal * 2.0).max()) == 0.0
    assert float(torch.full((64,), 2.0**-120).mul(2.0).max()) > 0.0
