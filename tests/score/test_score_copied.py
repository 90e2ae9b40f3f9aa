"""Reference frames by themselves: nothing that they hand over counts as read from an update."""

import dataclasses
import itertools
import math

import pytest
import torch

from auditor.attack.start import reference_copy
from auditor.probe import canary, gallery, shipped_probes
from auditor.records import InputSpec, Knowledge
from auditor.score import Grade, clearly_above_chance, grade_clip, grade_finding, reference_copies, score_clip
from auditor.score.motion import motion_gain
from auditor.score.psnr import psnr

SPEC = InputSpec(frames=8, channels=3, height=32, width=32, layout="NCTHW")


@pytest.fixture(scope="module")
def moving():
    """A clip with people who walk."""
    return next(p for p in shipped_probes(SPEC) if p.name == "treadmill_two")


@pytest.fixture(scope="module")
def candidates(moving):
    return gallery(SPEC, moving).clips


def halfway(probe, share, copy):
    return copy + share * (probe.clip - copy)


def test_the_attackers_copy_and_the_scores_are_the_same_clip(moving):
    """Two stages make the copy, as neither may import the other: each is the other's witness."""
    for count in (1, 2, 3, 8):
        knows = Knowledge(clip_shape=SPEC.clip_shape, batch=1, classes=2, reference=moving.clip[:count])
        scored = reference_copies(moving.clip[:count], 8, (32, 32))["reference copy"]
        assert torch.allclose(reference_copy(knows, 8), scored, atol=1e-6)


def test_the_copy_itself_gains_nothing(moving, candidates):
    for count in (1, 3):
        frames = moving.clip[:count]
        for copy in reference_copies(frames, 8, (32, 32)).values():
            score = score_clip(moving, copy, candidates, frames)
            assert score.copy.gain <= 1e-6
            assert score.copy.motion_beyond <= 1e-6
            assert score.copy.pasted
            assert grade_clip(score, with_reference=True) is Grade.NOT_SHOWN


def test_a_held_frame_has_no_motion_and_several_have_some(moving):
    held, several = ((moving.clip[:1], 1), (moving.clip[::3], 3))
    assert score_clip(moving, moving.clip, gallery(SPEC, moving).clips, held[0]).copy.motion_gain == 0.0
    copies = reference_copies(several[0], 8, (32, 32)).values()
    expected = max(motion_gain(moving.clip, c) for c in copies)
    assert expected > 1.0
    assert score_clip(moving, moving.clip, gallery(SPEC, moving).clips, several[0]).copy.motion_gain == expected


def test_what_goes_from_the_copy_to_the_truth_counts_and_what_goes_elsewhere_does_not(moving, candidates):
    frames = moving.clip[:1]
    copy = frames.expand(8, -1, -1, -1)
    near = score_clip(moving, halfway(moving, 0.9, copy), candidates, frames)
    assert near.copy.followed == pytest.approx(0.9, abs=1e-5)
    assert not near.copy.pasted
    # A tenth of the way left is a hundredth of the squared error: 20 dB.
    assert near.copy.gain == pytest.approx(20.0, abs=0.1)
    assert grade_clip(near, with_reference=True) >= Grade.RECOGNISABLE
    noise = torch.randn(copy.shape, generator=torch.Generator().manual_seed(0))
    astray = score_clip(moving, (copy + 0.05 * noise).clamp(0, 1), candidates, frames)
    assert abs(astray.copy.followed) < 0.1
    assert grade_clip(astray, with_reference=True) is Grade.NOT_SHOWN


def test_interpolated_motion_is_the_references_own(moving, candidates):
    """Rk: the copy moves as the clip does. An attack that returns it, sharpened a little, shows nothing."""
    frames = moving.clip[::2]
    copy = reference_copies(frames, 8, (32, 32))["reference copy"]
    score = score_clip(moving, halfway(moving, 0.15, copy), candidates, frames)
    assert score.gain > 1.0  # 1.4 dB: enough by itself
    assert score.motion_gain > 1.0
    assert score.copy.pasted
    assert grade_clip(score, with_reference=True) is Grade.NOT_SHOWN


@pytest.mark.parametrize("noise", [0.0, 1 / 255, 0.015])
def test_a_reference_that_is_the_whole_clip_leaves_nothing_to_find(moving, candidates, noise):
    """To the bit, rounded to 8 bits, or at 36 dB: whatever an attack returns, no finding rests on it."""
    shake = torch.rand(moving.clip.shape, generator=torch.Generator().manual_seed(0)) - 0.5
    frames = (moving.clip + noise * 2 * shake).clamp(0, 1)
    exact = score_clip(moving, moving.clip, candidates, frames)
    assert math.isinf(exact.psnr)
    assert grade_clip(exact, with_reference=True) is Grade.NOT_SHOWN
    finding = grade_finding([exact] * 5, recall_significant=True, bits_significant=False, with_reference=True)
    assert finding is Grade.NOT_SHOWN


def test_every_number_of_a_copy_is_the_one_of_its_own_function(moving, candidates):
    """Three frames move when they are interpolated: what a reconstruction gains and what is beyond differ."""
    frames = moving.clip[[0, 3, 7]]
    copies = reference_copies(frames, 8, (32, 32)).values()
    made = 0.9 * halfway(moving, 0.4, next(iter(copies)))
    score = score_clip(moving, made, candidates, frames)
    level, moved = max(float(psnr(moving.clip, c)) for c in copies), max(motion_gain(moving.clip, c) for c in copies)
    assert (score.copy.psnr, score.copy.motion_gain) == pytest.approx((level, moved))
    assert score.copy.gain == pytest.approx(score.psnr - level)
    assert score.copy.motion_beyond == pytest.approx(score.motion_gain - moved)
    numbers = (level, moved, score.copy.gain, score.copy.motion_beyond, score.motion_gain, score.copy.followed)
    assert min(abs(a - b) for a, b in itertools.combinations(numbers, 2)) > 1e-3


def test_a_motionless_truth_has_no_motion_to_gain(moving, candidates):
    still = dataclasses.replace(moving, clip=moving.clip[:1].expand(8, -1, -1, -1).contiguous())
    for frames in (still.clip[:1], still.clip[:1] * 0.5):
        score = score_clip(still, still.clip, candidates, frames)
        assert grade_clip(score, with_reference=True) is Grade.NOT_SHOWN


def test_bits_that_the_copy_reads_are_no_evidence(candidates):
    """A frame of a canary hands bits over: reading as many is chance, reading more is not."""
    probe = canary(SPEC, 3)
    frames = probe.clip[:3]
    copies = reference_copies(frames, 8, (32, 32)).values()
    read = max(sum(a == b for a, b in zip(probe.decode(c), probe.payload, strict=True)) for c in copies)
    pasted = score_clip(probe, next(iter(copies)), candidates, frames)
    assert pasted.bits.chance == max(0.5, read / len(probe.payload))
    assert not clearly_above_chance(pasted.bits)
    everything = score_clip(probe, probe.clip, candidates, probe.clip)
    assert everything.bits.hits == len(probe.payload)
    assert everything.bits.chance == 1.0
    assert not clearly_above_chance(everything.bits)
    assert clearly_above_chance(score_clip(probe, probe.clip, candidates).bits)


def test_a_grey_or_foreign_reference_is_a_weak_guess_and_no_more(moving, candidates):
    other = next(p for p in shipped_probes(SPEC) if p.name == "city_night")
    plain = score_clip(moving, moving.clip, candidates)
    for frames in (torch.full((1, 3, 32, 32), 0.5), torch.zeros(1, 3, 32, 32), other.clip[:1]):
        score = score_clip(moving, moving.clip, candidates, frames)
        assert score.gain <= plain.gain
        assert score.copy.psnr < 15.0
        assert score.copy.followed == pytest.approx(1.0)
