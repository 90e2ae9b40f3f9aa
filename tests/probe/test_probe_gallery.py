import dataclasses
import time

import pytest
import torch

from auditor.probe import Galleries, alike, canary, gallery, moving_texture, shipped_probes
from auditor.probe.gallery import SIZE
from auditor.records import InputSpec, Probe

SHAPES = [(8, 3, 32, 32), (12, 1, 24, 40), (1, 3, 16, 16), (10, 3, 16, 16), (24, 3, 16, 16), (40, 3, 16, 16)]


def spec(frames=8, channels=3, height=32, width=32):
    return InputSpec(frames=frames, channels=channels, height=height, width=width, layout="NCTHW")


def user(shape=(8, 3, 90, 120)):
    clip = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    small = torch.nn.functional.interpolate(clip, (32, 32), mode="area")
    return Probe(name="mine.mp4", kind="user", clip=small, native=clip, sha256="", source="mine.mp4")


@pytest.mark.parametrize("shape", SHAPES)
def test_no_candidate_is_a_shipped_probe_or_another_candidate(shape):
    found = gallery(spec(*shape))
    assert len(found.names) == len(set(found.names)) == len(found.clips) == SIZE >= 64
    assert found.clips.shape[1:] == shape
    everything = torch.cat([found.clips, torch.stack([p.clip for p in shipped_probes(spec(*shape))])]).flatten(1)
    distance = torch.cdist(everything.double(), everything.double(), compute_mode="donot_use_mm_for_euclid_dist")
    assert (distance + torch.eye(len(everything))).min() > 1e-3


def test_it_is_deterministic_and_in_range():
    one, two = gallery(spec()), gallery(spec())
    assert torch.equal(one.clips, two.clips)
    assert 0 <= one.clips.min() < one.clips.max() <= 1


def test_every_camera_gives_as_many_candidates():
    names = [name.split("/")[0] for name in gallery(spec()).names]
    assert {names.count(name) for name in names} == {12}


def test_excluding_a_candidate_removes_it():
    found = gallery(spec())
    probe = Probe(name="x", kind="real", clip=found.clips[5].clone(), native=found.clips[5], sha256="", source="")
    without = gallery(spec(), probe)
    assert found.names[5] not in without.names
    assert len(without.names) == SIZE - 1


@pytest.mark.parametrize("make", [canary, moving_texture])
def test_generated_probes_hide_among_their_kind(make):
    probe = make(spec(), 3)
    found = gallery(spec(), probe)
    assert len(found.names) == SIZE
    assert all(name.startswith(probe.kind) for name in found.names)
    assert (found.clips - probe.clip).abs().amax((1, 2, 3, 4)).min() > 0.01


def test_a_user_clip_hides_among_its_own_crops_too():
    found = gallery(spec(), user())
    assert len(found.names) == SIZE
    assert sum(name.startswith("mine.mp4/") for name in found.names) == 10
    assert len({name.split("/")[0] for name in found.names}) == 8


def test_galleries_of_several_probes_share_what_they_can():
    probes = (*shipped_probes(spec(), 2), user(), canary(spec(), 3))
    found = Galleries(spec(), probes)
    for probe in probes:
        assert torch.equal(found[probe.name], gallery(spec(), probe).clips)
        assert found[probe.name] is found[probe.name]
    assert found[probes[0].name] is found[probes[1].name], "one copy in memory"


def test_a_gallery_of_large_canaries_is_made_in_seconds():
    start = time.process_time()
    gallery(spec(4, 3, 224, 224), canary(spec(4, 3, 224, 224), 0))
    assert time.process_time() - start < 15  # 2 s on an idle core; 93 s when patterns were multiplied out


def test_memory_is_bounded_for_large_clips():
    found = gallery(spec(8, 3, 224, 224))
    assert found.clips.nbytes <= 256 * 2**20
    assert found.clips.shape[0] == SIZE
    assert found.clips.shape[1:3] == (8, 3)
    assert gallery(spec(8, 3, 112, 112)).clips.shape[-2:] == (112, 112)


def test_small_galleries_are_fast():
    start = time.process_time()
    gallery(spec())
    assert time.process_time() - start < 5


def footage(seed, seen):
    """A user's clip of one static scene through which something bright walks: its window, and later ones."""
    scene = torch.rand((3, 32, 32), generator=torch.Generator().manual_seed(seed)) * 0.5
    moments = []
    for start in range(0, 3 * seen, seen):
        clip = scene.repeat(8, 1, 1, 1)
        clip[:, :, start : start + 6, 10:12] = 1.0
        moments.append(clip)
    own, *others = moments
    name = f"mine{seed}.mp4"
    return Probe(name=name, kind="user", clip=own, native=own, sha256="", source=name, moments=tuple(others))


def test_a_user_clip_hides_among_other_moments_and_the_other_clips_of_the_folder():
    one, other = footage(1, 8), footage(2, 8)
    found = gallery(spec(), one, folder=(other,))
    assert [name for name in found.names if name.startswith("mine")][:5] == [
        "mine1.mp4/moment 1", "mine1.mp4/moment 2", "mine2.mp4/whole", "mine2.mp4/moment 1", "mine2.mp4/moment 2",
    ]  # fmt: skip
    assert len(found.names) == SIZE
    galleries = Galleries(spec(), (one, other))
    assert torch.equal(galleries[one.name], found.clips)
    names = [found.names[i] for i in galleries.same_scene(one.name)]
    assert len(names) == 12
    assert all(name.startswith("mine1.mp4/") for name in names)


def test_other_clips_of_the_same_scene_count_as_its_moments():
    one = footage(1, 8)
    again = dataclasses.replace(one, name="later.mp4", clip=one.moments[0], moments=one.moments[1:])
    galleries = Galleries(spec(), (one, again))
    names = [gallery(spec(), one, folder=(again,)).names[i] for i in galleries.same_scene(one.name)]
    assert sum(name.startswith("later.mp4/") for name in names) == 2


def test_what_looks_the_same_is_no_other_moment():
    one = footage(1, 8)
    still = dataclasses.replace(one, moments=(one.clip + 0.01, one.moments[0]))
    assert [name for name in gallery(spec(), still).names if "moment" in name] == ["mine1.mp4/moment 2"]


def test_a_large_folder_leaves_room_for_foreign_scenes():
    clips = [footage(seed, 8) for seed in range(30)]
    names = gallery(spec(), clips[0], folder=clips[1:]).names
    assert sum(name.endswith("/whole") for name in names if name.startswith("mine")) == 24
    assert sum(not name.startswith("mine") for name in names) > SIZE // 2


def test_one_scene_is_known_in_another_light_and_two_scenes_are_not_one():
    one, other = footage(1, 8), footage(2, 8)
    darker = dataclasses.replace(one, name="evening.mp4", clip=0.4 * one.clip, moments=())
    assert alike(one, darker)
    assert not alike(one, other)
    # A person may cover one moment, and the next shows the same place.
    covered = dataclasses.replace(one, name="near.mp4", clip=other.clip, moments=(one.moments[1],))
    assert alike(dataclasses.replace(one, moments=()), covered)


def flows(count, frames=8, channels=2):
    made = [torch.rand((frames, channels, 40, 40), generator=torch.Generator().manual_seed(k)) for k in range(count)]
    small = [torch.nn.functional.interpolate(clip, (32, 32), mode="area") for clip in made]
    pairs = enumerate(zip(made, small, strict=True))
    return [Probe(name=f"flow-{k}", kind="user", clip=s, native=n, sha256="", source="") for k, (n, s) in pairs]


@pytest.mark.parametrize(("channels", "frames", "clips"), [(2, 8, 1), (2, 8, 5), (17, 8, 3), (10, 1, 2)])
def test_clips_that_are_no_pictures_hide_among_views_of_the_users_clips(channels, frames, clips):
    shape = spec(frames, channels)
    probes = flows(clips, frames, channels)
    galleries = Galleries(shape, (*probes, canary(shape, 3)))
    for probe in probes:
        found = galleries[probe.name]
        assert found.shape[1:] == probe.clip.shape
        assert 10 <= len(found) <= SIZE
        every = torch.cat([found, torch.stack([p.clip for p in probes])]).flatten(1).double()
        assert (torch.cdist(every, every) + torch.eye(len(every))).min() > 1e-3
        own = galleries.same_scene(probe.name)
        assert len(own) >= len(found) // clips
    assert len(galleries["canary-3"]) == SIZE
