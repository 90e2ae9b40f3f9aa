"""Faults of code that knows one device only, planted into an attack: the emulated device finds each of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from attack_cases import CASES, Case, conv
from torch import Tensor, nn

import emulated_device
from auditor.attack import BY_NAME, Attack
from auditor.records import Reconstruction
from emulated_device.checking import a_step, difference, on_device, on_processor

FEW, MANY = 6, 10
PLAIN = BY_NAME["gradient-matching"]
# What `tests/attack/test_contract.py` states for this attack.
WAITS, COPIES, WITHIN_DB = 1, 1, 0.1


def _written_to_the_cpu(v: Tensor) -> Tensor:
    kept = torch.zeros(len(v), device="cpu")
    kept[:] = v.detach()
    return v


def _drawn_elsewhere(v: Tensor) -> Tensor:
    return v + 0.0 * torch.rand(v.shape, generator=torch.Generator(), device=v.device)


def _branched(v: Tensor) -> Tensor:
    return v if (v.detach().abs() >= 0.0).all() else -v


def _solved(v: Tensor) -> Tensor:
    return v + 0.0 * torch.linalg.lstsq(v.detach()[:8, None], v.detach()[:8, None], driver="gelsd").solution.sum()


# Each leaves the values as they are, so that a test on the CPU sees nothing.
FAULTS: dict[str, Callable[[Tensor], Tensor]] = {
    "numpy of a tensor": lambda v: v + 0.0 * float(v.detach().numpy()[0]),
    "an array of a tensor": lambda v: v + 0.0 * float(np.asarray(v.detach())[0]),
    "a CPU tensor beside": lambda v: v + torch.zeros(v.shape, device="cpu"),
    "a CPU index": lambda v: v[torch.arange(len(v), device="cpu")],
    "a generator of the CPU": _drawn_elsewhere,
    "a tensor of a tensor": lambda v: v + 0.0 * torch.tensor(v.detach()),
    "a tensor of numbers on the device": lambda v: v + 0.0 * torch.tensor([*v.detach()[:4]]).sum(),
    "item in the inner loop": lambda v: v + 0.0 * sum(x.item() for x in v.detach()[:3]),
    "a branch in the inner loop": _branched,
    "a selection whose size the values decide": lambda v: v[v.detach().abs() >= 0.0],
    "a slice written to the CPU": _written_to_the_cpu,
    "to the CPU and back at every step": lambda v: v + 0.0 * v.detach().cpu().to(v.device),
    "a solver that only CPUs have": _solved,
}


@dataclass(frozen=True)
class Faulty:
    """An objective that does what another does, after the fault."""

    inner: Callable[..., Tensor]
    fault: Callable[[Tensor], Tensor]

    def __call__(self, ours, theirs):
        return self.inner({name: self.fault(g.flatten()).view(g.shape) for name, g in ours.items()}, theirs)


@cache
def expected() -> Reconstruction:
    return on_processor(PLAIN, CASES[0], FEW)


def found(attack: Attack, case: Case) -> str:
    """Say what the emulated device shows of an attack that should do what `PLAIN` does; empty where nothing."""
    try:
        (made, few), (_, many) = (on_device(attack, case, emulated_device.device(), n) for n in (FEW, MANY))
    except (RuntimeError, TypeError, UserWarning) as error:
        return f"{type(error).__name__}: {error}"
    if not isinstance(made, Reconstruction) or difference(made, expected(), case) > WITHIN_DB:
        return "other clips than on the CPU"
    waits, copies = a_step(few, many, MANY - FEW)
    return f"{waits} waits and {copies} copies a step" if waits > WAITS or copies > COPIES else ""


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch):
    monkeypatch.setattr("auditor.attack.matching.gradient_matching.LEAST_STEPS", 5)


def test_without_a_fault_nothing_is_found():
    assert found(PLAIN, CASES[0]) == ""


@pytest.mark.parametrize("kind", FAULTS)
def test_a_planted_fault_is_found(kind):
    faulty = replace(PLAIN, objective=Faulty(PLAIN.objective, FAULTS[kind]))
    # On the CPU nobody would notice.
    made = on_processor(faulty, CASES[0], FEW) if kind != "a tensor of a tensor" else expected()
    assert difference(made, expected(), CASES[0]) <= WITHIN_DB
    assert found(faulty, CASES[0])


class LeftBehind(nn.Module):
    """A net whose constant is neither parameter nor buffer: it stays where it was made."""

    def __init__(self, classes, spec) -> None:
        super().__init__()
        self.net, self.constant = conv(classes, spec), torch.ones(1, 3, 1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x * self.constant)


def test_a_constant_that_stays_behind_is_found():
    assert "beside those of emulated" in found(PLAIN, Case("left behind", LeftBehind))
