"""Further starts and the deep prior, against closed forms."""

import pytest
import torch

from auditor.attack.matching.deep_prior import DeepPrior
from auditor.attack.start import GivenClips, Pattern, ReferenceFrame, UniformNoise
from auditor.records import Knowledge

SHAPE = (6, 3, 8, 10)
KNOWS = Knowledge(clip_shape=SHAPE, batch=2, classes=10)


def still(seed: int = 0) -> torch.Tensor:
    frame = torch.rand(2, 1, 3, 8, 10, generator=torch.Generator().manual_seed(seed))
    return frame.expand(2, *SHAPE)


def line(values: torch.Tensor, axis: int) -> torch.Tensor:
    view = [1] * 5
    view[axis] = -1
    return values.view(view).expand(2, *SHAPE)


def test_starts_are_seeded_in_range_and_shaped():
    for start in (UniformNoise(), Pattern(3)):
        a, b = (start(KNOWS, torch.Generator().manual_seed(1)) for _ in range(2))
        assert torch.equal(a, b)
        assert a.shape == (2, *SHAPE)
        assert float(a.min()) >= 0.0
        assert float(a.max()) <= 1.0
    tiled = Pattern(3)(KNOWS, torch.Generator().manual_seed(1))
    assert torch.equal(tiled[..., 3:6, :], tiled[..., 0:3, :])
    assert torch.equal(tiled[..., 3:6], tiled[..., 0:3])
    assert torch.equal(tiled[:, 0], tiled[:, 5])
    assert not torch.equal(tiled[0], tiled[1])


def test_given_clips_are_the_start_and_their_shape_is_checked():
    given = still() * 3.0 - 1.0
    made = GivenClips(given)(KNOWS, torch.Generator())
    assert torch.equal(made, given.clamp(0.0, 1.0))
    made.zero_()
    assert float(given.abs().max()) > 0.0
    with pytest.raises((ValueError, TypeError), match=r"shape|Type-check"):
        GivenClips(given[:1])(KNOWS, torch.Generator())


@pytest.mark.parametrize(("known", "count"), [(1, 1), (1, 3), (3, 1), (3, 3), (2, 2)])
def test_reference_frames_are_held_or_interpolated(known, count):
    frames = torch.rand(known, *SHAPE[1:], generator=torch.Generator().manual_seed(0))
    knows = Knowledge(clip_shape=SHAPE, batch=1, classes=10, reference=frames)
    made = ReferenceFrame(noise=0.0, count=count)(knows, torch.Generator())[0]
    used = frames[-count:]
    expected = torch.nn.functional.interpolate(
        used.flatten(1).T[None], size=6, mode="linear", align_corners=True
    )[0].T.view(SHAPE) if len(used) > 1 else used.expand(SHAPE)  # fmt: skip
    assert torch.allclose(made, expected, atol=1e-6)


def test_a_deep_prior_makes_clips_of_any_size_from_weights_of_their_own():
    for shape in ((2, 4, 3, 12, 10), (1, 1, 3, 7, 5), (1, 2, 1, 4, 4)):
        like = torch.full(shape, 0.3)
        variables = DeepPrior(width=8).bind(like)
        weights = variables.of(like)
        made = variables.clips(weights, 0.0)
        assert made.shape == shape
        assert 0.0 < float(made.min()) < float(made.max()) < 1.0
        assert abs(float(made.mean()) - 0.3) < 0.25
        assert torch.equal(variables.clips(DeepPrior(width=8).bind(like).of(like), 0.5), made)
    like = torch.rand(2, 4, 3, 12, 10)
    variables = DeepPrior(width=8).bind(like)
    weights = variables.of(like).requires_grad_(True)
    (slope,) = torch.autograd.grad(variables.clips(weights, 0.0)[0].sum(), weights)
    assert float(slope[0].abs().max()) > 0.0
    assert float(slope[1].abs().max()) == 0.0


def test_a_deep_prior_fits_a_scene_sooner_than_noise():
    smooth = torch.linspace(0, 1, 12).view(1, 1, 1, 12, 1) * torch.linspace(1, 0.2, 12)
    smooth = smooth.expand(1, 4, 3, 12, 12).contiguous()
    noise = torch.rand(smooth.shape, generator=torch.Generator().manual_seed(0))

    def fitted(goal: torch.Tensor) -> float:
        variables = DeepPrior(width=8).bind(goal)
        weights = variables.of(goal).requires_grad_(True)
        adam = torch.optim.Adam([weights], lr=0.01)
        for _ in range(60):
            adam.zero_grad()
            loss = (variables.clips(weights, 0.0) - goal).square().mean()
            loss.backward()
            adam.step()
        return float(loss.detach() / goal.var())

    assert fitted(smooth) < 0.3 * fitted(noise)
