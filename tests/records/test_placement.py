"""Tensors are made where the update is, with the same draws everywhere; models make theirs as they were written."""

import emulated_device
import pytest
import torch

from auditor.records import as_written, placed, random_state_kept

EVERY = pytest.mark.parametrize("device", emulated_device.DEVICES)


def drawn() -> torch.Tensor:
    return torch.randn(5, generator=torch.Generator().manual_seed(3))


@EVERY
def test_what_names_no_device_is_made_there(device):
    with placed(torch.device(device)):
        made = (torch.zeros(2), torch.arange(3), torch.eye(2), torch.tensor([1.0]), torch.full((2,), 0.5))
        there, here = torch.ones(2, device=device), torch.ones(2, device="cpu")
    assert all(t.device.type == device for t in (*made, there))
    assert here.device.type == "cpu"
    assert torch.zeros(2).device.type == "cpu"


@EVERY
def test_draws_are_the_cpus(device):
    with placed(torch.device(device)):
        made = drawn()
    assert made.device.type == device
    assert torch.equal(made.cpu(), drawn())


def test_on_the_cpu_nothing_is_intercepted():
    with placed(torch.device("cpu")):
        assert not torch.overrides._is_torch_function_mode_enabled()


@EVERY
def test_a_model_is_left_as_it_was_written(device):
    with placed(torch.device(device)):
        with as_written():
            assert torch.zeros(2).device.type == "cpu"
        assert torch.zeros(2).device.type == device


@EVERY
def test_random_states_are_left_as_they_were(device):
    before = torch.get_rng_state()
    with random_state_kept(torch.device(device)):
        torch.manual_seed(1)
        torch.rand(3, device=device)
    assert torch.equal(torch.get_rng_state(), before)
