"""A recursion on one update is made once, counted each time, and never taken for that on another."""

import gc
from dataclasses import replace

import pytest
import torch
from bench_nets import SPEC, flat, seeded, view_of

from auditor.attack.recursion import remembered_descent
from auditor.attack.recursion.remembered_descent import descend
from auditor.probe import shipped_probes
from auditor.records.work import counting, work_so_far

CLIPS = [p.clip for p in shipped_probes(SPEC)[:2]]


@counting()
def worked(view):
    begun = work_so_far()
    found = descend(view)
    return found, work_so_far() - begun


@pytest.fixture
def made(monkeypatch):
    """The views of which a recursion was made anew."""
    views, whole = [], remembered_descent.descend_anew
    monkeypatch.setattr(remembered_descent, "descend_anew", lambda view: (views.append(view), whole(view))[1])
    return views


def test_seeds_and_references_share_it_and_each_counts_its_work(made):
    view = view_of(seeded(flat), CLIPS[0][None], [3])
    first, work = worked(view)
    held = replace(view, knowledge=replace(view.knowledge, reference=CLIPS[1][:1]))
    again, counted = worked(held)
    assert again is first
    assert len(made) == 1
    assert counted == pytest.approx(work, rel=1e-9)
    assert work > 0.0


def test_another_update_another_belief_and_other_weights_have_their_own(made):
    net = seeded(flat)
    view = view_of(net, CLIPS[0][None], [3])
    first = descend(view)
    other = descend(replace(view, update=view_of(net, CLIPS[1][None], [3]).update))
    assert not torch.equal(first.deepest.value, other.deepest.value)
    descend(replace(view, knowledge=replace(view.knowledge, labels=(4,))))
    with torch.no_grad():
        next(iter(view.target.parameters.values())).mul_(1.001)
    descend(view)
    assert len(made) == 4


def test_what_is_large_is_not_kept(made, monkeypatch):
    monkeypatch.setattr(remembered_descent, "_LARGEST", 1)
    view = view_of(seeded(flat), CLIPS[0][None], [3])
    descend(view)
    descend(view)
    assert len(made) == 2


def test_it_ends_with_its_update():
    view = view_of(seeded(flat), CLIPS[0][None], [3])
    descend(view)
    before = len(remembered_descent._known)
    del view
    gc.collect()
    assert len(remembered_descent._known) == before - 1
