import numpy as np
import pytest
import torch
from scipy import ndimage

from auditor.efficientnet import embedder
from auditor.probe import gallery, moving_texture, shipped_probes
from auditor.records import InputSpec
from auditor.score import embedding as module
from auditor.score.embedding import embedding_rank, similarities
from auditor.score.remembered import Remembered

SPEC = InputSpec(frames=4, channels=3, height=32, width=32, layout="NCTHW")


@pytest.fixture(scope="module")
def truths():
    return [probe.clip for probe in shipped_probes(SPEC)]


@pytest.fixture(scope="module")
def candidates():
    return gallery(SPEC).clips


def generator(seed):
    return torch.Generator().manual_seed(seed)


def test_the_truth_and_a_damaged_truth_are_found(truths, candidates):
    found = []
    for seed, truth in enumerate(truths):
        assert embedding_rank(truth, truth, candidates) == 1
        noisy = truth + 0.1 * torch.randn(truth.shape, generator=generator(seed))
        blurred = torch.from_numpy(ndimage.gaussian_filter(truth.numpy(), (0, 0, 1.5, 1.5)))
        found += [embedding_rank(truth, made, candidates) for made in (noisy, blurred)]
    # Measured: 10 of 14 on top, none below rank 3.
    assert sum(r == 1 for r in found) >= 8
    assert max(found) <= 6


def test_what_knows_nothing_is_right_no_more_often_than_chance(truths, candidates):
    ranks = []
    for seed in range(6):
        for made in (torch.rand(SPEC.clip_shape, generator=generator(seed)), moving_texture(SPEC, seed).clip):
            ranks += [embedding_rank(truth, made, candidates) for truth in truths]
    middle = (len(candidates) + 2) / 2
    assert 0.7 * middle < sum(ranks) / len(ranks) < 1.6 * middle
    assert sum(r == 1 for r in ranks) <= 0.05 * len(ranks)


def test_another_clip_s_reconstruction_is_not_the_truth(truths, candidates):
    assert all(embedding_rank(a, b, candidates) > 1 for a in truths for b in truths if a is not b)


def test_a_tie_counts_against_the_attacker(truths, candidates):
    doubled = torch.cat([candidates[:20], truths[0][None], truths[0][None]])
    assert embedding_rank(truths[0], truths[0], doubled) == 3
    same = truths[0].expand(5, *truths[0].shape)
    assert embedding_rank(truths[0], truths[0], same.contiguous()) == 6, "all equal the mean: nothing points anywhere"


def test_similarities_agree_with_numpy_on_every_candidate_s_maps(truths, candidates):
    few, made = candidates[:5], truths[1].lerp(truths[2], 0.4)

    def vector(clip):
        frames = torch.nn.functional.interpolate(clip[[0, 2]], (64, 64), mode="bicubic", align_corners=False)
        with torch.no_grad():
            maps = embedder().stages(frames.clamp(0, 1))[3].double().numpy()
        assert maps.shape[1:] == (112, 4, 4)
        return (maps / np.linalg.norm(maps, axis=1, keepdims=True)).ravel()

    mean = np.mean([vector(clip) for clip in few], axis=0)
    own = vector(made) - mean

    def cosine(clip):
        other = vector(clip) - mean
        return own @ other / np.linalg.norm(own) / np.linalg.norm(other)

    expected = [cosine(clip) for clip in (truths[1], *few)]
    assert similarities(truths[1], made, few).tolist() == pytest.approx(expected, abs=1e-4)


def test_a_gallery_is_embedded_once_whichever_copy_is_asked_about(truths, monkeypatch):
    crowd = torch.stack(truths[1:])
    sizes = []
    whole = module.embedding

    def counted(clips):
        sizes.append(len(clips))
        return whole(clips)

    monkeypatch.setattr(module, "embedding", counted)
    monkeypatch.setattr(module, "_of_gallery", Remembered(counted, most=2))
    ranks = [embedding_rank(truths[0], truths[0], gallery) for gallery in (crowd, crowd, crowd.clone())]
    assert ranks == [1, 1, 1]
    assert sizes == [len(crowd), 2, 2, 2], "the gallery once, then truth and estimate only"


def test_a_smaller_gallery_and_one_channel(truths, candidates):
    small = torch.nn.functional.interpolate(candidates.flatten(0, 1), (24, 24), mode="area").unflatten(0, (84, 4))
    assert [embedding_rank(truth, truth, small) for truth in truths[:3]] == [1] * 3
    grey = candidates[:10].mean(2, keepdim=True)
    assert embedding_rank(truths[0].mean(1, keepdim=True), truths[0].mean(1, keepdim=True), grey) == 1


def test_shapes_must_agree(truths, candidates):
    with pytest.raises((ValueError, TypeError), match=r"shapes differ|Type-check error"):
        embedding_rank(truths[0], truths[0][:2], candidates)
