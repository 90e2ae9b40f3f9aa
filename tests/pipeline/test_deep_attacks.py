"""Attacks that take minutes of algebra: planned by what they compute, before searches that may not fit."""

import dataclasses
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest
import torch
from bench_nets import Transformer, clip, flat, pooled, seeded, target_of, view_of
from residual_nets import ResidualNet
from torch import nn

from auditor.attack import BY_NAME, PRESETS, Attack, AttackCost
from auditor.exposure import determinacy
from auditor.pipeline import units
from auditor.pipeline.deep.planning import DeepAttack, planned_seconds, seconds_for_deep, share_out
from auditor.pipeline.progress import Silent
from auditor.records import Budget, Clock, Outcome, Reconstruction, Skipped, charge, decomposition_seconds
from auditor.records import work_of as counted

HEAD = nn.Linear(8, 10)
RECURSION, SPANS = BY_NAME["residual-recursion"], BY_NAME["token-spans"]

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Scripted(Attack):
    """Ends as told, in no time, and remembers what it got."""

    source: str = "test"
    outcome: Outcome = Outcome.CONVERGED
    seconds: float = 0.0
    got: list[tuple[str, int]] = field(default_factory=list)

    def obstacle(self, view):
        return None

    def invert(self, view, budget: Budget, seed: int) -> Reconstruction:
        self.got.append((self.name, budget.steps))
        charge(self.seconds)
        return Reconstruction(
            attack=self.name, clips=torch.zeros(1, 1, 1, 1, 1), labels=(0,), outcome=self.outcome, objective=0.0
        )


def planned(attack: Attack, first: float = 1.0, step: float = 0.1, steps: int = 100) -> DeepAttack:
    work = AttackCost(multiplications=0.0, gradients=0.0, step=1.0, steps=steps)
    return DeepAttack(attack=attack, work=work, first=first, step=step, steps=steps)


def work_of(attack, net, spec=None):
    target = target_of(net)
    view = view_of(net, clip(1)[None], [3])
    shapes = {n: tuple(p.shape) for n, p in target.parameters.items()}
    return attack.work(replace(view, target=target), determinacy(target.layers, shapes))


@pytest.fixture
def audit(monkeypatch):
    """Run a preset of these attacks on some clips and a canary, those of `deep` planned apart."""
    monkeypatch.setattr(
        units,
        "unit_view",
        lambda *args: SimpleNamespace(knowledge=SimpleNamespace(defences=()), update=SimpleNamespace(device=CPU)),
    )

    def call(attacks, deep, seconds, clips=3, pace=0.001):
        observed = [SimpleNamespace(probe=SimpleNamespace(name=f"clip {i}", kind="real")) for i in range(clips)]
        observed.append(SimpleNamespace(probe=SimpleNamespace(name="canary", kind="canary")))
        preset = replace(PRESETS["fast"], attacks=(*attacks, *(one.attack for one in deep)))
        context = SimpleNamespace(
            seed=0,
            device=torch.device("cpu"),
            target=SimpleNamespace(step=None),
            protocol=SimpleNamespace(batch=1, steps=1),
        )
        return units.run_units(context, observed, preset, Clock(seconds), pace, 0.0, Silent(), deep=deep)

    return call


def test_whole_runs_are_made_on_as_many_clips_as_fit():
    one = planned(RECURSION)
    assert one.seconds == pytest.approx(11.0)
    assert dataclasses.astuple(share_out(one, 3, 100.0)) == pytest.approx((3, 100, 11.0))
    assert share_out(one, 3, 25.0).clips == 2


def test_searches_are_shorter_before_a_clip_loses_its_null_control():
    two = share_out(planned(RECURSION), 3, 12.0)
    assert (two.clips, two.steps) == (2, 50)
    # What comes before the search is not cut: one clip alone, or none.
    assert share_out(planned(RECURSION, first=8.0), 3, 12.0).clips == 1
    assert share_out(planned(RECURSION, first=20.0), 3, 12.0).clips == 0


def test_searches_that_could_not_fit_leave_all_their_time():
    assert seconds_for_deep(100.0, search=10.0, searches=4) == 75.0
    assert seconds_for_deep(100.0, search=60.0, searches=4) == 100.0
    assert seconds_for_deep(100.0, search=10.0, searches=0) == 100.0


def test_the_time_of_deep_attacks_comes_on_top_of_a_presets_up_to_its_most():
    deep = (planned(RECURSION), Skipped(stage="invert", what="x", because="not-applicable", reason="no"))
    assert planned_seconds(deep, 3) == pytest.approx(33.0)


def test_deep_attacks_run_before_searches_and_on_real_clips_alone(audit):
    got = []
    search = Scripted(name="search", title="s", got=got)
    deep = Scripted(name="deep", title="d", got=got)
    closed = Scripted(name="closed", title="c", closed_form=True, got=got)
    audit([search, closed], [planned(deep, first=0.01, step=0.001)], 10.0)
    names = [name for name, _ in got]
    assert names == ["closed"] * 4 + ["deep"] * 3 + ["search"] * 4
    assert {steps for name, steps in got if name == "deep"} == {100}


def test_one_clip_gets_the_canary_as_its_null_control(audit):
    got = []
    audit([], [planned(Scripted(name="deep", title="d", got=got), first=0.01, step=0.001)], 10.0, clips=1)
    assert len(got) == 2


def test_searches_that_cannot_fit_do_not_keep_deep_attacks_from_running(audit):
    got = []
    search = Scripted(name="search", title="s", got=got)
    ran, skipped = audit(
        [search], [planned(Scripted(name="deep", title="d", got=got, seconds=1.0), first=1.0)], 3.0, pace=1e3
    )
    assert [name for name, _ in got] == ["deep", "deep"]
    assert len(ran) == 2
    left_out = {s.what: s.reason for s in skipped if s.because == "out-of-budget"}
    assert set(left_out) == {"search", "deep"}
    assert "is about 1 s of algebra" in left_out["deep"]


def test_nothing_runs_where_not_even_the_algebra_fits(audit):
    ran, skipped = audit([], [planned(Scripted(name="deep", title="d"), first=50.0)], 8.0)
    assert not ran
    assert skipped[0].reason.endswith("(3 runs)")


def test_updates_that_closed_forms_solved_need_no_deep_attack(audit):
    got = []
    closed = Scripted(name="closed", title="c", closed_form=True, outcome=Outcome.SOLVED)
    deep = planned(Scripted(name="deep", title="d", got=got), first=0.01)
    _, skipped = audit([closed], [deep], 10.0)
    assert not got
    assert any(s.what == "deep" and "closed solved every update" in s.reason for s in skipped)
    audit([replace(closed, outcome=Outcome.UNVERIFIED)], [deep], 10.0)
    assert len(got) == 3


def test_an_attack_that_was_succeeded_does_not_run_on_the_same_update(audit):
    got = []
    deep = Scripted(name="deep", title="d", succeeds="shallow", got=got)
    shallow, other = (Scripted(name=n, title=n, got=got) for n in ("shallow", "other"))
    _, skipped = audit([shallow, other], [planned(deep, first=0.01, step=0.001)], 10.0)
    # The canary was left to it.
    assert [name for name, _ in got].count("shallow") == 1
    assert [name for name, _ in got].count("other") == 4
    assert any(s.what == "shallow" and "deep went further down" in s.reason for s in skipped)


def test_the_recursion_through_graphs_gives_way_on_nets_of_one_way_only():
    assert "layer-recursion" in RECURSION.needless(view_of(seeded(flat), clip(1)[None], [3]))
    assert RECURSION.needless(view_of(seeded(ResidualNet), clip(1)[None], [3])) is None


def test_the_recursion_is_not_planned_where_nothing_below_the_head_follows():
    """More time would not help: what it would find there, it says before it begins."""
    pool = (nn.AdaptiveAvgPool3d(1), nn.Flatten())
    gated = seeded(lambda: nn.Sequential(nn.Conv3d(3, 8, 3), nn.SiLU(), *pool, HEAD))
    normed = seeded(lambda: nn.Sequential(nn.Conv3d(3, 8, 3), nn.ReLU(), *pool, nn.LayerNorm(8), HEAD))
    for net, mixes in ((gated, "silu"), (normed, "layer_norm")):
        view = view_of(net, clip(1)[None], [3])
        assert f"{mixes} mixes values that are not known" in RECURSION.needless(view)
        made = RECURSION.invert(view, Budget(seconds=10.0, steps=1), 0)
        assert isinstance(made, Skipped) or made.outcome is not Outcome.SOLVED


def test_work_is_counted_from_shapes():
    small, large = (work_of(RECURSION, seeded(lambda w=w: ResidualNet(widths=w))) for w in ((8, 12, 16), (24, 40, 48)))
    assert 0 < small.multiplications < large.multiplications
    # The deepest system by hand: the block at 2x4x4 with 40 channels, 32 unknowns and 1080 equations.
    assert large.multiplications > 32**2 * 1080
    assert 0.5 <= large.step < 0.6
    assert large.steps >= 500
    # More positions than channels: it declines, which costs nothing.
    assert work_of(SPANS, seeded(pooled)).multiplications == 0.0
    assert 1e6 < work_of(SPANS, seeded(Transformer)).multiplications < 1e10  # milliseconds to seconds


def test_decompositions_are_planned_as_they_are_counted():
    matrix = torch.rand((60, 60), dtype=torch.float64)
    once = counted(lambda: torch.linalg.svd(matrix))
    assert counted(lambda: torch.linalg.svd(matrix)) == once
    assert decomposition_seconds(60**3) <= once <= 1.5 * decomposition_seconds(60**3)
