"""Weights files whose names are fewer than the network's, or other weights: tied layers, adapters of low rank."""

import pytest
import torch
from refusals import fails

from auditor.errors import NotAuditable, UsageError
from auditor.model import load

TIED = """
import torch
from torch import nn
def factory():
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4))
    net[3].weight = net[2].weight
    net.input_shape, net.layout = (3, 4, 4, 4), "NCTHW"
    return net
"""


@pytest.mark.parametrize("left_out", ["2.weight", "3.weight"])
def test_a_weight_with_two_names_needs_one_of_them(left_out, tmp_path) -> None:
    """As safetensors.torch.save_model writes it."""
    (tmp_path / "net.py").write_text(TIED)
    source = f"{tmp_path}/net.py:factory"
    trained = load(source, seed=5)
    state = {name: value for name, value in trained.model.state_dict().items() if name != left_out}
    torch.save(state, tmp_path / "w.pt")
    found = load(source, weights=tmp_path / "w.pt").parameters
    assert all(torch.equal(value, trained.parameters[name]) for name, value in found.items())
    torch.save({name: value for name, value in state.items() if name != "4.weight"}, tmp_path / "w.pt")
    fails(UsageError, "1 missing (4.weight)", source=source, weights=tmp_path / "w.pt")


@pytest.mark.parametrize("prefix", ["base_model.model.", ""])
def test_adapters_are_told_as_such(prefix, tmp_path) -> None:
    (tmp_path / "net.py").write_text(TIED)
    factory = f"{tmp_path}/net.py:factory"
    state = load(factory).model.state_dict()
    factors = {f"{prefix}4.lora_A.weight": torch.ones(2, 4), f"{prefix}4.lora_B.weight": torch.zeros(5, 2)}
    for content in (factors, {**state, **factors}):
        torch.save(content, tmp_path / "w.pt")
        fails(UsageError, "low-rank adapters", "factory", "merge", source=factory, weights=tmp_path / "w.pt")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    fails(NotAuditable, "peft.PeftModel", source=factory, weights=tmp_path / "adapter_config.json")
