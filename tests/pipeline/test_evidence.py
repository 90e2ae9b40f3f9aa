"""Clips of one scene are one trial, nulls and findings share a correction, and one scene is no null for itself."""

import dataclasses

import pytest
import torch

from auditor.pipeline.evidence import tally
from auditor.pipeline.pairing import scenes
from auditor.probe import alike, canary, shipped_probes
from auditor.records import InputSpec, Probe
from auditor.score import ClipScore, bits_interval

SPEC = InputSpec(frames=8, channels=3, height=32, width=32, layout="NCTHW")
FOUND = ClipScore(
    psnr=25.0, psnr_frames=(25.0,), ssim_frames=(0.8,), baselines={"grey": 14.0}, gain=11.0, motion=30.0,
    motion_gain=3.0, rank=1, gallery=85, z=3.0,
)  # fmt: skip
MISSED = dataclasses.replace(FOUND, rank=9, z=0.5)


@pytest.fixture(scope="module")
def probes():
    return shipped_probes(SPEC)


def user(name, clip):
    return Probe(name=name, kind="user", clip=clip, native=clip, sha256="", source="", licence="")


def test_shipped_clips_of_one_place_are_one_scene(probes):
    assert [p.name for p in probes[:5]] == ["park_walker", "treadmill_two", "park_jump", "treadmill_one", "hand_cup"]
    assert scenes(probes) == (0, 1, 0, 1, 4, 5, 6)
    assert alike(probes[0], probes[2])
    assert not alike(probes[0], probes[1])


def test_a_users_clips_that_look_alike_are_one_scene_even_by_one_between(probes):
    first, last = torch.zeros(SPEC.clip_shape), torch.full(SPEC.clip_shape, 0.3)
    between = torch.full(SPEC.clip_shape, 0.15)
    clips = [user("a", first), user("b", probes[0].clip), user("c", last), user("d", between)]
    assert not alike(clips[0], clips[2])
    assert scenes(clips) == (0, 1, 0, 0)


def test_a_scene_counts_once_and_by_most_of_its_clips(probes):
    walker, two, jump, one, cup = probes[:5]
    seen = tally([(walker, FOUND), (two, FOUND), (jump, FOUND), (one, MISSED), (cup, MISSED)], reference=False)
    assert (seen.recall.hits, seen.recall.trials) == (1, 3)
    assert seen.recall.chance == pytest.approx(1 / 85, abs=1e-6)
    # Five hits of five are three scenes.
    every = tally([(p, FOUND) for p in probes[:5]], reference=False)
    assert (every.recall.hits, every.recall.trials) == (3, 3)
    assert every.retrieved(looks=14)
    assert tally([(walker, FOUND)], reference=True).recall is None


def test_rank_one_counts_only_where_the_clips_own_chance_allows_it(probes):
    often = dataclasses.replace(FOUND, z=1.5)
    assert tally([(p, often) for p in probes[:2]], reference=False).recall.hits == 0


def test_more_tries_for_chance_ask_for_more(probes):
    seen = tally([(probes[0], FOUND), (probes[1], FOUND), (probes[4], MISSED)], reference=False)
    assert seen.retrieved(looks=14)
    assert not seen.retrieved(looks=40)
    bits = tally([(canary(SPEC, 0), dataclasses.replace(FOUND, bits=bits_interval(78, 120)))], reference=False)
    assert bits.recall is None
    assert bits.read(looks=14)
    assert not bits.read(looks=40)
