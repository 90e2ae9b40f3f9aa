import itertools

import pytest
import torch
from scipy.fft import dctn
from torch.nn import functional

from auditor.probe import camera, gallery, moving_texture, shipped_probes
from auditor.records import InputSpec
from auditor.score import clearly_identified, is_found, score_clip
from auditor.score.intervals import wilson
from auditor.score.retrieval import chance_of_sum, rank, rank_among, similarities, summarise, tail_bound, z_score

SPEC = InputSpec(frames=8, channels=3, height=32, width=32, layout="NCTHW")
SHAPE = SPEC.clip_shape


@pytest.fixture(scope="module")
def truths():
    return [probe.clip for probe in shipped_probes(SPEC)]


@pytest.fixture(scope="module")
def candidates():
    return gallery(SPEC).clips


def noise(seed, shape=SHAPE):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def blurred(seed):
    """Noise of the scale of real scenes, without the dark border that padding would paint."""
    small = noise(seed, (1, 3, 2, 6, 6))
    return functional.interpolate(small, (8, 32, 32), mode="trilinear")[0].transpose(0, 1)


def nearly_grey(seed):
    return 0.5 + 0.01 * (noise(seed) - 0.5)


def nearly_mean(seed, candidates):
    return (candidates.mean(0) + 0.02 * (noise(seed) - 0.5)).clamp(0, 1)


@pytest.mark.parametrize("measure", ["pattern", "mse"])
def test_the_truth_and_a_noisy_truth_are_found(truths, candidates, measure):
    for truth in truths:
        assert rank(truth, truth, candidates, measure) == 1
        assert rank(truth, truth + 0.2 * (noise(1) - 0.5), candidates, measure) == 1


def test_contrast_and_colour_cast_do_not_matter(truths, candidates):
    cast = torch.tensor([0.2, 0.0, 0.1])[None, :, None, None]
    for truth in truths:
        assert rank(truth, 0.3 * truth + cast, candidates) == 1


@pytest.mark.parametrize("level", [0.0, 0.3, 0.5, 0.9])
def test_a_constant_ranks_last(truths, candidates, level):
    colour = torch.tensor([level, 0.4, 1 - level])[None, :, None, None].expand(SHAPE)
    for truth in truths:
        assert rank(truth, torch.full(SHAPE, level), candidates) == len(candidates) + 1
        assert rank(truth, colour, candidates) == len(candidates) + 1


def test_the_mean_of_the_gallery_ranks_last(truths, candidates):
    for truth in truths:
        assert rank(truth, candidates.mean(0), candidates) == len(candidates) + 1


def test_ties_count_against_the_attacker(truths, candidates):
    truth = truths[0]
    doubled = torch.cat([candidates, truth[None], truth[None]])
    for measure in ("pattern", "mse"):
        assert rank(truth, truth, doubled, measure) == 3


@pytest.mark.parametrize(
    "kind",
    [
        "nearly mean",
        "texture",
        *(pytest.param(k, marks=pytest.mark.slow) for k in ("noise", "blurred", "nearly grey")),
    ],
)
def test_a_reconstruction_that_knows_nothing_is_right_no_more_often_than_chance(truths, candidates, kind):
    ranks = []
    for seed in range(20):
        estimate = {
            "noise": lambda s: noise(s),
            "blurred": blurred,
            "nearly grey": nearly_grey,
            "nearly mean": lambda s: nearly_mean(s, candidates),
            "texture": lambda s: moving_texture(SPEC, s).clip,
        }[kind](seed)
        ranks += [rank(truth, estimate, candidates) for truth in truths]
    ranks = torch.tensor(ranks).double()
    middle = (len(candidates) + 2) / 2
    assert middle * 0.75 < ranks.mean() < middle * 1.25
    # Chance is 1/85; 140 trials, not independent (7 truths share each estimate): up to 5% is luck.
    assert (ranks <= 1).double().mean() <= 0.05


def test_the_reconstruction_of_another_clip_is_not_the_truth(truths, candidates):
    for i, truth in enumerate(truths):
        for j, other in enumerate(truths):
            if i != j:
                assert rank(truth, other, candidates) > 1


def test_bland_candidates_win_by_mse_but_not_by_pattern(truths, candidates):
    bland = 0.5 + 0.02 * (candidates - candidates.mean((1, 3, 4), keepdim=True))
    crowd = torch.cat([candidates[:40], bland[40:]])
    by_mse = [rank(truth, noise(1), crowd, "mse") for truth in truths]
    assert min(by_mse) > 40, "by square error every bland clip is closer to noise than any real truth"
    ranks = torch.tensor([rank(truth, noise(s), crowd) for s in range(10) for truth in truths]).double()
    assert 32 < ranks.mean() < 54


def test_a_weak_trace_of_the_truth_is_enough(truths, candidates):
    found = [rank(truth, 0.5 + 0.1 * (truth - 0.5) + 0.2 * (noise(2) - 0.5), candidates) for truth in truths]
    assert sum(r == 1 for r in found) >= 6


def test_a_smaller_gallery_is_compared_at_its_size(truths, candidates):
    small = functional.interpolate(candidates.flatten(0, 1), (16, 16), mode="area").unflatten(0, candidates.shape[:2])
    assert [rank(truth, truth, small) for truth in truths] == [1] * 7


def test_ranks_agree_with_a_partial_correlation_of_numpy(truths, candidates):
    import numpy as np

    few, estimate = candidates[:6], truths[1] * 0.3 + truths[2] * 0.3 + 0.3 * noise(3)

    def flat(clip):
        return np.concatenate([c - c.mean() for c in clip.double().numpy().transpose(1, 0, 2, 3).reshape(3, -1)])

    common = np.mean([flat(c) for c in few], axis=0)

    def partial(a, b):
        ab, ac, bc = (np.corrcoef(u, v)[0, 1] for u, v in ((a, b), (a, common), (b, common)))
        return (ab - ac * bc) / ((1 - ac**2) * (1 - bc**2)) ** 0.5

    for truth in truths:
        similar = [partial(flat(estimate), flat(c)) for c in (truth, *few)]
        assert rank(truth, estimate, few) == 1 + sum(s >= similar[0] for s in similar[1:])


def test_shapes_must_agree(truths, candidates):
    with pytest.raises((ValueError, TypeError), match=r"shapes differ|Type-check error"):
        rank(truths[0], truths[0][:4], candidates)
    with pytest.raises((ValueError, TypeError), match=r"shapes differ|Type-check error"):
        rank(truths[0][:4], truths[0][:4], candidates)


def test_the_summary_counts_and_chance_is_exact():
    ranks = [1, 1, 3, 5, 40]
    found = summarise(ranks, 85)
    assert (found.recall_1.hits, found.recall_5.hits, found.recall_1.trials) == (2, 4, 5)
    assert found.recall_1.chance == pytest.approx(1 / 85)
    assert found.recall_5.chance == pytest.approx(5 / 85)
    assert (found.recall_1.low, found.recall_1.high) == pytest.approx(wilson(2, 5))
    assert (found.mean_rank, found.chance_rank) == (10, 43)
    assert summarise([], 85) is None
    assert not summarise(ranks, 85, independent=False).independent


def test_the_tail_of_a_sum_of_ranks_is_the_share_of_all_outcomes():
    for trials, size in ((1, 7), (3, 5), (4, 6)):
        sums = [sum(c) for c in itertools.product(range(1, size + 1), repeat=trials)]
        for total in range(trials - 1, trials * size + 1):
            expected = sum(s <= total for s in sums) / len(sums)
            assert chance_of_sum(total, trials, size) == pytest.approx(expected, abs=1e-15)


def test_a_rank_among_a_few_candidates(truths, candidates):
    estimate = candidates[3]
    similar = similarities(truths[0], estimate, candidates)
    assert rank_among(similar) == rank(truths[0], estimate, candidates) > 1
    assert rank_among(similar, [3]) == 2
    assert rank_among(similar, []) == 1


def test_candidates_are_compared_by_their_own_patterns_also_after_the_gallery_changed(truths, candidates):
    """Partial correlations one by one, of a gallery that is remembered until it is written to."""
    crowd, estimate = candidates.clone(), (0.5 * truths[0] + 0.5 * noise(3)).clamp(0, 1)

    def expected():
        centred = [(c - c.mean((0, 2, 3), keepdim=True)).double().flatten() for c in (estimate, truths[0], *crowd)]
        common = torch.stack(centred[2:]).mean(0)
        own = [c - (c @ common) / (common @ common) * common for c in centred]
        return [float(own[0] @ o / (own[0].norm() * o.norm())) for o in own[1:]]

    assert similarities(truths[0], estimate, crowd).tolist() == pytest.approx(expected(), abs=1e-6)
    before = similarities(truths[0], estimate, crowd)
    crowd[:5] = torch.stack([noise(s) for s in range(5)])
    assert similarities(truths[0], estimate, crowd).tolist() == pytest.approx(expected(), abs=1e-6)
    assert not torch.equal(similarities(truths[0], estimate, crowd), before)


def test_z_is_the_similarity_over_what_random_signs_of_its_modes_make(truths, candidates):
    """Against SciPy's cosine transform, and the deviation of signs drawn at random."""
    estimate = (truths[1] + noise(1)).clamp(0, 1)
    common = torch.stack([c - c.mean((0, 2, 3), keepdim=True) for c in candidates.double()]).mean(0).flatten()
    common = common / common.norm()
    patterns = []
    for clip in (truths[1], estimate):
        flat = (clip.double() - clip.double().mean((0, 2, 3), keepdim=True)).flatten()
        flat = flat - (flat @ common) * common
        patterns.append(torch.from_numpy(dctn((flat / flat.norm()).reshape(SHAPE).numpy(), norm="ortho")).flatten())
    own, other = patterns
    assert float(own @ other) == pytest.approx(float(similarities(truths[1], estimate, candidates)[0]), abs=1e-9)
    signs = torch.randint(2, (1500, own.numel()), generator=torch.Generator().manual_seed(0)).double() * 2 - 1
    chance = signs @ (own * other)
    z = z_score(truths[1], estimate, candidates)
    assert z == pytest.approx(float(own @ other) / float((own * other).norm()))
    assert z == pytest.approx(float(own @ other / chance.std()), rel=0.05)
    for limit in (1.0, 2.0, 3.0):
        assert float((chance / chance.std() >= limit).double().mean()) <= tail_bound(limit)


def test_foreign_clips_are_not_found_more_often_than_chance_whichever_the_truth(truths, candidates):
    names = [p.name for p in shipped_probes(SPEC)]
    shown = gallery(SPEC)
    cameras = [camera(name.split("/")[0]) for name in shown.names]
    for name, truth in zip(names, truths, strict=True):
        foreign = [c for c, scene in zip(shown.clips, cameras, strict=True) if scene != camera(name)]
        estimates = [functional.interpolate(functional.avg_pool2d(c, 4), (32, 32), mode="bilinear") for c in foreign]
        zs = torch.tensor([z_score(truth, e, candidates) for e in estimates])
        assert float(zs.std()) < 1.3
        # A bound: what it says one time in 85 happened in none of about 70.
        assert not any(tail_bound(float(z)) <= 1 / 85 for z in zs)


def test_one_clip_alone_can_be_identified_beyond_luck():
    probe = shipped_probes(SPEC, 2)[1]
    shown = gallery(SPEC, probe).clips
    near = score_clip(
        probe, (probe.clip + 0.018 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))), shown
    )
    assert 34.0 < near.psnr < 35.5
    assert near.rank == 1
    assert is_found(near)
    # By rank alone chance is as good one time in 85, more than the 1% that an audit allows itself in all.
    assert clearly_identified([near], looks=14)
    nothing = score_clip(probe, noise(3), shown)
    assert not is_found(nothing)
    assert not clearly_identified([nothing] * 5)
