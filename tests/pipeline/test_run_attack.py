"""Running one attack: what every caller is told, whatever comes of it."""

from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from auditor.attack import Attack
from auditor.pipeline import run_attack as module
from auditor.pipeline.run_attack import run_attack, solve
from auditor.records import Budget, Outcome, Reconstruction, Skipped

BUDGET = Budget(seconds=1.0, steps=1)
VIEW = SimpleNamespace(knowledge=SimpleNamespace(defences=()), update=SimpleNamespace(device=torch.device("cpu")))


@dataclass(frozen=True, kw_only=True)
class Scripted(Attack):
    """Does what the test says."""

    name: str = "scripted"
    title: str = "Scripted"
    source: str = "test"
    stopped: str | None = None
    raises: BaseException | None = None
    outcome: Outcome = Outcome.SOLVED

    def obstacle(self, view):
        return self.stopped

    def invert(self, view, budget, seed):
        budget.progress(0.5)
        if self.raises is not None:
            raise self.raises
        return Reconstruction(
            attack=self.name,
            clips=torch.zeros(1, 1, 1, 1, 1),
            labels=(0,),
            outcome=self.outcome,
            objective=0.0,
            seed=seed,
        )


class Shown:
    """Remembers what is shown."""

    def __init__(self):
        self.units, self.fractions = [], []

    @contextmanager
    def unit(self, title, seconds):
        self.units.append((title, seconds))
        yield self.fractions.append


def test_a_reconstruction_is_handed_on_and_its_progress_is_shown():
    shown = Shown()
    made = run_attack(Scripted(), VIEW, BUDGET, 7, shown, "title", 3.0)
    assert isinstance(made, Reconstruction)
    assert made.seed == 7
    assert shown.units == [("title", 3.0)]
    assert shown.fractions == [0.5]


def test_an_obstacle_is_told_and_nothing_is_shown_as_running():
    shown = Shown()
    made = run_attack(Scripted(stopped="it is Sunday"), VIEW, BUDGET, 0, shown, "title")
    assert isinstance(made, Skipped)
    assert (made.what, made.because, made.reason) == ("scripted", "not-applicable", "it is Sunday")
    assert not shown.units


def test_a_defect_is_told_by_its_first_line():
    made = run_attack(Scripted(raises=ValueError("first\nsecond")), VIEW, BUDGET, 0)
    assert (made.because, made.reason) == ("failed", "ValueError: first")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError()])
def test_what_is_no_defect_of_the_attack_is_not_caught(error):
    with pytest.raises(type(error)):
        run_attack(Scripted(raises=error), VIEW, BUDGET, 0)


def test_the_first_closed_form_that_reproduces_the_update_is_taken(monkeypatch):
    unsure = Scripted(name="unsure", outcome=Outcome.UNVERIFIED)
    monkeypatch.setattr(module, "CLOSED_FORMS", (Scripted(stopped="no"), unsure, Scripted(name="sure")))
    assert solve(VIEW, 1.0, 0).attack == "sure"
    monkeypatch.setattr(module, "CLOSED_FORMS", (Scripted(stopped="no"), unsure))
    assert solve(VIEW, 1.0, 0) is None


def test_a_closed_form_that_breaks_is_told(monkeypatch):
    monkeypatch.setattr(module, "CLOSED_FORMS", (Scripted(raises=RuntimeError("broken")), Scripted()))
    assert solve(VIEW, 1.0, 0).reason == "RuntimeError: broken"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_what_memory_does_not_hold_is_no_defect(error):
    told = run_attack(Scripted(raises=error), VIEW, BUDGET, 0)
    assert told.because == "out-of-memory"
    assert "more memory" in told.remedy
    assert str(error) in told.reason
