"""The patch embedding's equation after local steps, with fewer equations than tokens, and with shared positions."""

import dataclasses
import math

import pytest
import torch
from bench_nets import CLASSES, SPEC, Transformer, clip, psnr, seeded, view_of
from torch import Tensor, nn

from auditor.attack.closed_form.patch_embedding import PatchEmbeddingInversion
from auditor.attack.closed_form.patch_equation import solve_patches
from auditor.attack.closed_form.patch_grid import patch_grid
from auditor.attack.closed_form.pixel_map import pixel_map
from auditor.attack.closed_form.position_gradients import position_gradients
from auditor.federated import LocalClient, observe
from auditor.records import Budget, FederatedProtocol, Outcome, Reconstruction, Skipped, Update

BUDGET = Budget(seconds=60.0, steps=1)


class Frames(nn.Module):
    """A frame-wise patch embedding with positions in space that frames share, and positions in time."""

    def __init__(self, width: int = 96, token: bool = False, time: bool = True) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(0.1 * torch.randn(1, 1, width)) if token else None
        self.space = nn.Parameter(0.1 * torch.randn(1, 16 + token, width))
        self.time = nn.Parameter(0.1 * torch.randn(1, 4, width)) if time else None
        self.block = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        b, t = len(x), x.shape[2]
        x = self.embed(x.transpose(1, 2).flatten(0, 1)).flatten(2).transpose(1, 2)
        if self.token is not None:
            x = torch.cat([self.token.expand(b * t, -1, -1), x], dim=1)
        x = x + self.space
        if self.token is not None:
            x = x[:, 1:]
        x = x.reshape(b, t, -1, x.shape[-1])
        if self.time is not None:
            x = x + self.time[:, :, None]
        return self.head(self.block(x.flatten(1, 2)).mean(1))


def trained(net: nn.Module, truth: Tensor, *, known: bool, **training):
    """Return the view of a FedAvg update."""
    view = view_of(net, truth[None], [5])
    protocol = FederatedProtocol(algorithm="FedAvg", sent=tuple(view.target.parameters), **training)
    client = LocalClient(view.target.model, protocol)
    knowledge = view.knowledge
    if known:
        knowledge = dataclasses.replace(knowledge, local_batch=0, **{"momentum": 0.0, **training})
    return dataclasses.replace(
        view, client=client, update=observe(client, truth[None], torch.tensor([5])), knowledge=knowledge
    )


def zeroed(net: Transformer) -> Transformer:
    with torch.no_grad():
        net.position.zero_()
    return net


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_positions_that_started_at_zero_give_the_clip_away_after_twenty_steps(known, momentum):
    truth = clip(3)
    net = zeroed(seeded(Transformer))
    made = PatchEmbeddingInversion().invert(
        trained(net, truth, known=known, local_epochs=20, learning_rate=0.01, momentum=momentum), BUDGET, 0
    )
    assert isinstance(made, Reconstruction)
    assert made.outcome is Outcome.SOLVED
    assert ("update_residual" in made.certificate) == known
    assert psnr(made.clips[0], truth) > 50.0


def test_rounded_positions_cost_what_the_certificate_expects():
    truth = clip(3)
    made = PatchEmbeddingInversion().invert(
        trained(seeded(Transformer), truth, known=False, local_epochs=20, learning_rate=0.003), BUDGET, 0
    )
    assert isinstance(made, Reconstruction)
    assert abs(psnr(made.clips[0], truth) - made.certificate["expected_psnr"]) < 3.0


def grid_and_product(noise: float, seed: int = 0):
    """Return a grid, patches of a clip, token gradients of falling strength, and their product with noise."""
    view = view_of(seeded(Transformer), clip(0)[None], [1])
    pixels = pixel_map(view.target.model, "embed.weight", SPEC.clip_shape, torch.device("cpu"))
    assert pixels is not None
    grid = patch_grid(pixels, (2, 4, 4))
    assert grid is not None
    g = torch.Generator().manual_seed(seed)
    delta = (
        torch.randn(32, 96, generator=g, dtype=torch.float64) * torch.logspace(0, -4, 32, dtype=torch.float64)[:, None]
    )
    x = clip(4).reshape(-1)[grid.pixel].double() - 0.5
    dw = delta.T @ x
    return grid, x, delta, dw + noise * torch.randn(dw.shape, generator=g, dtype=torch.float64)


def test_exact_equations_are_solved_exactly():
    grid, x, delta, dw = grid_and_product(0.0)
    found = solve_patches(delta, dw, grid)
    assert torch.allclose(found.values, x, atol=1e-8)
    assert found.rank == 32
    assert found.off is not None
    assert found.off < 1e-12


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_measured_and_filtered(seed):
    grid, x, delta, dw = grid_and_product(3e-3, seed)
    found = solve_patches(delta, dw, grid)
    plain = torch.linalg.lstsq(delta.T, dw).solution
    error = float((found.values - x).square().mean())
    assert error < 0.5 * float((plain - x).square().mean())
    assert 0.3 < found.error / error < 3.0


def test_the_grid_puts_patches_back_where_they_were():
    grid, x, _, _ = grid_and_product(0.0)
    assert torch.allclose(grid.to_clip(x), clip(4), atol=1e-6)
    assert torch.allclose(grid.patches(grid.modes(x)), x, atol=1e-12)
    assert grid.box == (2, 3, 4, 4)


def test_fewer_features_than_tokens_leave_a_solution_of_least_norm():
    truth = clip(3)
    made = PatchEmbeddingInversion().invert(view_of(seeded(lambda: Transformer(width=24)), truth[None], [5]), BUDGET, 0)
    assert isinstance(made, Reconstruction)
    assert made.certificate["rank"] == 24
    assert math.isinf(made.certificate["equation_residual"])
    assert "24 equations for 32 tokens" in made.notes[0]
    assert psnr(made.clips[0], truth) > psnr(torch.full_like(truth, 0.5), truth) + 3.0


@pytest.mark.parametrize("token", [False, True])
def test_positions_that_frames_share_give_a_still_clip_away(token):
    # One colour a frame on top of a background: a_s + b_t.
    still = clip(3)[:1] * 0.7 + torch.linspace(0.0, 0.2, 4)[:, None, None, None]
    made = PatchEmbeddingInversion().invert(view_of(seeded(lambda: Frames(token=token)), still[None], [5]), BUDGET, 0)
    assert isinstance(made, Reconstruction), made
    assert made.outcome is Outcome.SOLVED
    assert psnr(made.clips[0], still) > 60.0
    assert "frames share" in made.notes[0]


@pytest.mark.parametrize("time", [False, True])
def test_positions_that_frames_share_say_when_a_clip_moves(time):
    truth = clip(3)
    made = PatchEmbeddingInversion().invert(view_of(seeded(lambda: Frames(time=time)), truth[None], [5]), BUDGET, 0)
    assert isinstance(made, Reconstruction), made
    assert made.outcome is Outcome.UNVERIFIED


def test_rows_of_a_class_token_are_left_out():
    rows = torch.randn(17, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (found,) = position_gradients({"p": rows[None]}, 16, 8, rows[1:].sum(0))
    assert torch.equal(found.rows, rows[1:])
    assert not list(position_gradients({"p": rows[None]}, 16, 8, torch.ones(8, dtype=torch.float64)))


def test_another_clips_update_says_nothing_about_this_one():
    """Null control."""
    made = PatchEmbeddingInversion().invert(view_of(seeded(Transformer), clip(3)[None], [5]), BUDGET, 0)
    assert isinstance(made, Reconstruction)
    assert psnr(made.clips[0], clip(8)) < psnr(torch.full_like(clip(8), 0.5), clip(8)) + 3.0


def test_what_says_nothing_is_refused_or_skipped():
    view = view_of(seeded(Transformer), clip(3)[None], [5])
    attack = PatchEmbeddingInversion()

    def filled(value):
        gradients = {n: torch.full_like(g, value) for n, g in view.update.gradients.items()}
        return dataclasses.replace(view, update=Update(gradients=gradients, batch=1))

    assert attack.obstacle(filled(float("nan")))
    assert attack.obstacle(filled(0.0))
    two = view_of(seeded(Transformer), torch.stack([clip(1), clip(2)]), [1, 2])
    assert "mixes them" in (attack.obstacle(two) or "")
    grey = attack.invert(view_of(seeded(Transformer), torch.full((1, 4, 3, 16, 16), 0.5), [5]), BUDGET, 0)
    assert isinstance(grey, Skipped) or psnr(grey.clips[0], torch.full((4, 3, 16, 16), 0.5)) > 60.0
