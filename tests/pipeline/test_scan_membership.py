"""Was this frame in the clip? Claims hold where they are made, and stop before they are wrong."""

import dataclasses

import pytest
import torch
from bench_nets import flat, seeded, target_of
from frame_nets import small

from auditor.pipeline.context import observe_probes, set_up
from auditor.pipeline.documents.asides import membership_block
from auditor.pipeline.membership import RATE, Asked, ClipAsked, ask_membership, judge
from auditor.probe import camera, canary, same_camera, shipped_probes
from auditor.records import Clock, FederatedProtocol, InputSpec, Skipped
from auditor.results.encode import document
from auditor.score import Grade, calibrate_membership
from auditor.score.intervals import clopper_pearson

SPEC = InputSpec(frames=8, channels=3, height=32, width=32, layout="NCTHW")


@pytest.fixture(autouse=True)
def one_thread():
    """Hundreds of tiny operations: threads cost more than they bring."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def audit(shared="gru", batch=1, spec=SPEC, clips=3, change=None, net=None):
    """Ask what a scan asks of some shipped clips and a canary; `change` spoils what the attacker receives."""
    target = target_of(net or seeded(lambda: small(shared)), spec, 10)
    context = set_up(target, FederatedProtocol(batch=batch), torch.device("cpu"), 0)
    observed = observe_probes(context, (*shipped_probes(spec, clips), canary(spec, 0)))
    if change is not None:
        observed = tuple(
            dataclasses.replace(
                o,
                update=dataclasses.replace(
                    o.update, gradients={n: change(g, i) for n, g in o.update.gradients.items()}
                ),
            )
            for i, o in enumerate(observed)
        )
    return ask_membership(context, observed, Clock(600.0), 0.001)


@pytest.mark.parametrize("batch", [1, 2, pytest.param(4, marks=pytest.mark.slow), 8])
def test_frames_of_the_clip_are_told_from_frames_of_the_same_camera(batch):
    found = audit(batch=batch)
    assert found.claims, found.silent
    assert found.grade is Grade.GIST
    wrong = [a for c in found.clips for a in c.asked if a.kind in ("same camera", "other scene") and a.called]
    assert not wrong
    assert sum(a.kind == "same camera" for c in found.clips for a in c.asked) == 18
    assert found.true_positives.trials == 24
    assert found.true_positives.hits >= 20  # 24, 24, 22 and 23 when this was written
    assert found.null.hits == 0
    low, high = clopper_pearson(found.true_positives.hits, 24)
    assert (found.true_positives.low, found.true_positives.high) == (low, high)


@pytest.mark.parametrize(
    ("shared", "noise"), [("gru", 1e-6), ("gru", 1e-3), ("gru", 0.1), ("gru", 10.0), ("linear", 1e-3), ("linear", 1.0)]
)
def test_it_falls_silent_before_it_lies(shared, noise):
    """Noise on the update takes hits away first; no frame that was not in a clip is ever claimed."""

    def noisy(gradient, i):
        g = torch.Generator().manual_seed(17 * i + gradient.numel() % 13)
        return gradient + noise * gradient.std() * torch.randn(gradient.shape, generator=g)

    found = audit(shared, change=noisy)
    if isinstance(found, Skipped):
        assert noise >= 0.1
        return
    wrong = [a for c in found.clips for a in c.asked if a.kind in ("same camera", "other scene") and a.called]
    if found.claims:
        assert len(wrong) <= RATE * found.false_positives.trials
    if noise >= 0.1:
        assert found.true_positives.hits == 0
        assert found.grade is Grade.NOT_SHOWN


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_rounded_updates_are_not_over_read(precision):
    found = audit(change=lambda gradient, i: gradient.to(precision).float())
    assert isinstance(found, Skipped) or not any(
        a.called for c in found.clips for a in c.asked if a.kind in ("same camera", "other scene")
    )


def test_one_clip_is_too_few_to_count_as_shown():
    found = audit(clips=1)
    assert found.true_positives.hits == 8
    assert found.clips_found.hits == 1
    assert found.grade is Grade.NOT_SHOWN


def test_nothing_is_asked_of_nets_without_a_shared_weight():
    found = audit(net=seeded(flat), spec=InputSpec(frames=4, channels=3, height=16, width=16, layout="NCTHW"))
    assert isinstance(found, Skipped)
    assert found.because == "not-applicable"
    block = document(membership_block(found))
    assert not block["claims"]
    assert block["reason"] == found.reason


def test_without_time_it_says_so():
    target = target_of(seeded(small), SPEC, 10)
    context = set_up(target, FederatedProtocol(), torch.device("cpu"), 0)
    observed = observe_probes(context, shipped_probes(SPEC, 1))
    assert ask_membership(context, observed, Clock(0.0), 1.0).because == "out-of-budget"


def test_frames_of_the_same_camera_are_none_of_the_clips():
    for probe in shipped_probes(SPEC):
        near = same_camera(probe, SPEC, 6)
        assert near.shape == (6, 3, 32, 32)
        assert float((near[:, None] - probe.clip[None]).abs().amax((2, 3, 4)).min()) > 0.0
    assert camera("park_walker") == camera("park_jump") != camera("city_night")


TEST = calibrate_membership([[0.1 + 0.01 * i for i in range(10)], [0.2 + 0.01 * i for i in range(10)]])


def clip_asked(**called):
    """A clip with so many frames of each sort, of which so many are called members."""
    frame = torch.zeros(3, 2, 2)
    asked = [
        Asked(kind=kind.replace("_", " "), frame=frame, distance=0.0, called=i < hits)
        for kind, (hits, trials) in called.items()
        for i in range(trials)
    ]
    return ClipAsked(
        probe="x", weight="w", rank=4, rows=4, complete=True, noise=0.0, test=TEST, asked=tuple(asked)
    )  # fmt: skip


GOOD = {"member": (8, 8), "same_camera": (0, 6), "other_scene": (0, 20), "another_update": (0, 8)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"same_camera": (1, 6)}, "same camera"),
        ({"other_scene": (2, 20)}, "other scene"),
        ({"another_update": (3, 8)}, "another client's update"),
        ({"same_camera": (0, 2), "other_scene": (0, 2)}, "too few"),
    ],
)
def test_no_claim_is_made_above_the_stated_rate(change, said):
    found = judge([clip_asked(**(GOOD | change))] * 3, 1, "float32")
    assert said in found.silent
    assert found.claims == (not said)
    assert found.grade is (Grade.NOT_SHOWN if said else Grade.GIST)
    block = document(membership_block(found))
    claims = {f["claim"] for c in block["clips"] for f in c["frames"]}
    assert claims == ({None} if said else {True, False})
