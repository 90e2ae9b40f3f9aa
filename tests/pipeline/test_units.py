"""How the work of an audit is shared among attacks: cheap ones first, and work given back goes to others."""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest
import torch

from auditor.attack import LEAST_STEPS, PRESETS, Attack, Preset
from auditor.pipeline import units
from auditor.pipeline.deep.planning import MARGIN
from auditor.pipeline.progress import Silent
from auditor.records import Budget, Ceiling, Clock, Outcome, Reconstruction, Skipped, charge

PACE = 0.001
LEAST = PACE * LEAST_STEPS * MARGIN

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Sleeper(Attack):
    """Does a share of the work it may, and remembers what it got."""

    source: str = "test"
    share: float = 0.0
    got: list[tuple[str, float]] = field(default_factory=list)

    def obstacle(self, view):
        return None

    def invert(self, view, budget: Budget, seed: int) -> Reconstruction:
        self.got.append((self.name, budget.seconds))
        charge(self.share * budget.seconds)
        return Reconstruction(
            attack=self.name, clips=torch.zeros(1, 1, 1, 1, 1), labels=(0,), outcome=Outcome.CONVERGED, objective=0.0
        )


@pytest.fixture
def audit(monkeypatch):
    """Run a preset of these attacks on some clips and a canary, in so many seconds."""
    view = SimpleNamespace(knowledge=SimpleNamespace(defences=()), update=SimpleNamespace(device=CPU))
    monkeypatch.setattr(units, "unit_view", lambda *args: view)

    def call(attacks, seconds, clips=2, scoring=0.0, ceiling=None):
        observed = [SimpleNamespace(probe=SimpleNamespace(name=f"clip {i}", kind="real")) for i in range(clips)]
        preset: Preset = replace(PRESETS["fast"], attacks=tuple(attacks))
        return units.run_units(
            SimpleNamespace(
            seed=0, device=torch.device("cpu"), target=SimpleNamespace(step=None),
            protocol=SimpleNamespace(batch=1, steps=1),
        ), observed, preset, Clock(seconds), PACE, scoring, Silent(),
            ceiling=ceiling,
        )  # fmt: skip

    return call


def test_closed_forms_come_first_whatever_their_place_in_the_preset(audit):
    got = []
    search = Sleeper(name="search", title="s", got=got)
    closed = Sleeper(name="closed", title="c", closed_form=True, got=got)
    audit([search, closed], 10.0)
    assert [name for name, _ in got] == ["closed", "closed", "search", "search"]


@pytest.mark.parametrize("used", [0.0, 0.5, 1.2])
def test_searches_that_fit_share_alike_whatever_others_use(audit, used):
    got = []
    ran, skipped = audit([Sleeper(name="search", title="s", share=used, got=got)], 10.0, clips=5)
    assert len(ran) == 5
    assert not skipped
    assert [seconds for _, seconds in got] == pytest.approx([2.0] * 5, rel=0.05)


def test_time_given_back_is_used_by_units_that_there_was_no_time_for(audit):
    got = []
    ran, skipped = audit([Sleeper(name="quick", title="q", got=got)], 4.5 * LEAST, clips=9)
    assert len(ran) == 9
    assert not skipped
    # The last one alone does not take what all others gave back.
    assert max(seconds for _, seconds in got) == pytest.approx(got[0][1])


def test_units_that_need_all_their_time_leave_none_and_the_rest_is_told(audit):
    got = []
    ran, skipped = audit([Sleeper(name="slow", title="s", share=1.0, got=got)], 4.5 * LEAST, clips=12)
    assert 1 <= len(ran) <= 4
    assert sum(seconds for _, seconds in got) <= 4.6 * LEAST
    (one,) = skipped
    assert one.because == "out-of-budget"
    assert f"({12 - len(ran)} runs)" in one.reason or "were left for 12 runs" in one.reason


def test_scoring_is_paid_for_before_a_unit_is_started(audit):
    got = []
    ran, skipped = audit([Sleeper(name="quick", title="q", got=got)], 2.0, clips=12, scoring=0.5)
    # Each costs half a second afterwards: four do not fit beside the least number of steps, three do.
    assert len(ran) == 3
    assert skipped[0].because == "out-of-budget"


def test_nothing_runs_without_time(audit):
    ran, skipped = audit([Sleeper(name="quick", title="q")], 0.0, clips=2)
    assert not ran
    assert skipped[0].reason.endswith("(2 runs)")


class Slow(Ceiling):
    """A wall clock that goes `slowness` times as fast as work is counted."""

    def __init__(self, seconds, slowness):
        super().__init__(seconds)
        self.slowness, self.work = slowness, Clock(0.0)

    @property
    def used(self):
        return self.slowness * self.work.used


def test_a_machine_that_is_too_slow_loses_whole_searches_and_no_steps_of_others(audit):
    got, undisturbed = [], []
    searches = [Sleeper(name="search", title="s", share=0.5, got=undisturbed)]
    audit(searches, 100.0, clips=5)
    ceiling = Slow(100.0, 3.0)
    ran, skipped = audit([replace(searches[0], got=got)], 100.0, clips=5, ceiling=ceiling)
    assert 1 <= len(ran) < 5
    assert [s for _, s in got] == pytest.approx([s for _, s in undisturbed[: len(got)]])
    assert len(ceiling.cuts) == 5 - len(ran)
    assert {(c.what, c.because) for c in ceiling.cuts} == {("search", "out-of-budget")}
    assert "left out whole" in skipped[0].reason


def test_closed_forms_run_however_late_it_is(audit):
    got, ceiling = [], Slow(0.0, 1.0)
    attacks = [Sleeper(name="closed", title="c", closed_form=True, got=got), Sleeper(name="search", title="s", got=got)]
    audit(attacks, 10.0, ceiling=ceiling)
    assert {name for name, _ in got} == {"closed"}
    assert {c.what for c in ceiling.cuts} == {"search"}


def test_without_a_limit_no_machine_is_too_slow(audit):
    ceiling = Slow(None, 1e9)
    ran, _ = audit([Sleeper(name="search", title="s", share=0.5)], 100.0, clips=5, ceiling=ceiling)
    assert len(ran) == 5
    assert not ceiling.cuts


def test_a_closed_form_that_was_planned_obeys_the_limit_by_the_clock(audit):
    attack = Sleeper(name="planned", title="p", closed_form=True, got=[])
    unit, ceiling = units.Unit(attack=attack, truth=0, update=0, repetition=0), Ceiling(0.0)
    observed = [SimpleNamespace(probe=SimpleNamespace(name="clip", kind="real"))]
    planned = units.Planned(unit=unit, budget=Budget(seconds=60.0, steps=1), work=30.0)
    (ran,) = units._run_all(
        SimpleNamespace(seed=0),
        observed,
        [planned],
        display=Silent(),
        references=units._OWN_FRAMES,
        ceiling=ceiling,
        runner=units.run_one,
    )
    assert isinstance(ran.result, Skipped)
    assert not attack.got
    assert [cut.what for cut in ceiling.cuts] == ["planned"]


def test_a_part_that_others_make_is_timed_by_their_own_speed():
    ceiling = Ceiling(100.0)
    assert not ceiling.late(40.0, slowness=2.0)
    assert ceiling.late(50.0, slowness=2.0)  # the report takes its time too
    assert not ceiling.late(50.0)


@dataclass(frozen=True, kw_only=True)
class Thorough(Sleeper):
    """Proves nothing with less than three times the steps of others."""

    @property
    def least_steps(self) -> int:
        return 3 * LEAST_STEPS


def test_fewer_searches_run_where_one_of_them_needs_more_steps_than_others(audit):
    """Sharing too little alike would leave every one of them without a result."""
    got = []
    attacks = [Thorough(name="thorough", title="t", share=1.0, got=got), Sleeper(name="s", title="s", share=1.0)]
    ran, skipped = audit(attacks, 7.0 * LEAST, clips=6)
    assert [r.unit.attack.name for r in ran] == ["thorough", "s"]
    assert all(seconds >= 3.0 * LEAST for _, seconds in got)
    assert {s.because for s in skipped} == {"out-of-budget"}


def test_least_squares_says_itself_what_it_needs():
    """Two searches of a fifth each of the budget, each of 20 products and what the first level computes."""
    attack = next(a for a in PRESETS["standard"].attacks if a.name == "least-squares-matching")
    assert attack.least_steps == pytest.approx(2 * 23 / 0.2, abs=1)
    assert replace(attack, restarts=1).least_steps == pytest.approx(2 * 23 / 0.4, abs=1)
