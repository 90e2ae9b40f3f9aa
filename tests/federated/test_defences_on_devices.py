"""Every defence does on another device what it does on the CPU, with the same draws."""

import emulated_device
import pytest
import torch

from auditor.federated.defence import DEFENCES, defend, parse

SPECS = (
    "top-k:0.25", "sign", "quantise:4", "clip:0.5", "clamp:0.7", "prune:0.6", "float16", "random-k:0.3", "gaussian:0.1",
    "laplace:0.1", "sparse-ternary:0.1", "kmeans:6", "blockwise:dynamic8", "blockwise:normal4", "secure-aggregation:3",
    "relative-gaussian:0.5,90", "fixed-point:1,256", "qsgd:16", "eden:4,20",
)  # fmt: skip


def update(device):
    generator = torch.Generator().manual_seed(5)
    drawn = {"a": torch.randn(6, 5, generator=generator), "b": torch.randn(40, generator=generator)}
    return {name: g.to(device) for name, g in drawn.items()}


def applied(spec: str, device):
    """What is sent, and what an attacker who sees it simulates, with and without seeing it."""
    defence, ours = parse(spec), update(device)
    sent = defend([defence], ours, torch.Generator().manual_seed(0))
    return [sent, defence.simulate(ours, None), defence.simulate(ours, sent)]


@pytest.mark.parametrize("device", emulated_device.DEVICES)
@pytest.mark.parametrize("spec", SPECS)
def test_a_defence_does_the_same(spec, device):
    # The emulated device computes as the CPU does; a GPU adds in another order.
    near = {} if device == "cuda" else {"rtol": 0.0, "atol": 0.0}
    for here, there in zip(applied(spec, "cpu"), applied(spec, torch.device(device)), strict=True):
        assert here.keys() == there.keys()
        for name, g in here.items():
            assert there[name].device.type == device
            torch.testing.assert_close(there[name].cpu(), g, **near)


def test_kinds_that_change_values_are_covered():
    covered = {type(parse(spec)) for spec in SPECS}
    # Left are those that change no value, and sparse vectors, which draw on the CPU whatever comes.
    assert {kind.name for kind in DEFENCES if kind not in covered} == LEFT


LEFT = {"exclude", "exclude-regex", "per-clip", "sparse-vector", "unchanged"}
