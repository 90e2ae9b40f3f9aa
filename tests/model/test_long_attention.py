"""Attention over many tokens: the values and both derivatives of the plain formula, without its scores kept."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from auditor.model import long_attention
from auditor.model.long_attention import LongAttention, LongSequences
from auditor.model.training_step import observed_step
from auditor.model.video import VideoModel
from auditor.records import InputSpec, TrainingStep

HEADS, TOKENS, WIDTH = 3, 40, 8


@pytest.fixture
def everything_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_attention, "MOST_SCORES", 0)


@pytest.fixture
def read() -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    shapes = (TOKENS, WIDTH), (TOKENS + 3, WIDTH), (TOKENS + 3, WIDTH + 2)
    return tuple(torch.randn((2, HEADS, *s), generator=generator, dtype=torch.float64).requires_grad_() for s in shapes)


def by_formula(query: Tensor, key: Tensor, value: Tensor, scale: float | None = None) -> Tensor:
    scores = query @ key.mT * (scale or 1 / math.sqrt(query.shape[-1]))
    return scores.softmax(-1) @ value


def derivatives(made: Tensor, read: tuple[Tensor, ...]) -> list[Tensor]:
    """Return the gradient of a curved function of the output, and the derivative of that gradient's squared norm."""
    first = torch.autograd.grad(made.sin().square().sum(), read, create_graph=True)
    squared = torch.stack([g.square().sum() for g in first]).sum()
    return [*first, *torch.autograd.grad(squared, read)]


@pytest.mark.parametrize("scale", [None, 0.7])
def test_values_and_both_derivatives_are_those_of_the_formula(everything_is_long, read, scale) -> None:
    with LongSequences():
        ours = F.scaled_dot_product_attention(*read, scale=scale)
    assert type(ours.grad_fn).__name__ == f"{LongAttention.__name__}Backward"
    wanted = by_formula(*read, scale=scale)
    torch.testing.assert_close(ours, wanted, rtol=1e-10, atol=1e-12)
    for one, other in zip(derivatives(ours, read), derivatives(wanted, read), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def test_without_heads(everything_is_long, read) -> None:
    alone = tuple(x.detach()[0, 0].requires_grad_() for x in read)
    with LongSequences():
        ours = F.scaled_dot_product_attention(*alone)
    for one, other in zip(derivatives(ours, alone), derivatives(by_formula(*alone), alone), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def test_what_is_short_masked_or_causal_runs_as_it_stands(read, monkeypatch) -> None:
    mask = torch.zeros(TOKENS, TOKENS + 3, dtype=torch.float64)
    with LongSequences():
        assert "LongAttention" not in type(F.scaled_dot_product_attention(*read).grad_fn).__name__
        monkeypatch.setattr(long_attention, "MOST_SCORES", 0)
        for options in ({"attn_mask": mask}, {"is_causal": True}, {"dropout_p": 0.1}):
            made = F.scaled_dot_product_attention(*read, **options)
            assert "LongAttention" not in type(made.grad_fn).__name__, options


class Attending(nn.Module):
    """Frames' rows as tokens that read each other."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.head = nn.Linear(16, 3 * WIDTH), nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.lift(x.flatten(1, 3)).chunk(3, dim=-1)
        return self.head(F.scaled_dot_product_attention(query, key, value).mean(1))


def test_a_training_step_tells_scores_that_it_does_not_keep(monkeypatch) -> None:
    spec = InputSpec(layout="NTCHW", frames=4, channels=3, height=16, width=16)
    model, clip = VideoModel(Attending().eval(), spec), torch.rand(1, 4, 3, 16, 16)
    tokens = 4 * 3 * 16
    with sdpa_kernel(SDPBackend.MATH):
        _, plain = observed_step(model, clip)
    monkeypatch.setattr(long_attention, "MOST_SCORES", 0)
    _, lean = observed_step(model, clip)
    scores = 4 * tokens**2
    assert (plain.scores, lean.scores) == (0, scores)
    assert lean.operations == plain.operations
    assert plain.kept - lean.kept > 0.9 * scores


def test_further_derivatives_are_planned_with_the_scores() -> None:
    without, lean = (TrainingStep(operations=1, kept=100, weights=10, scores=s) for s in (0, 1000))
    assert lean.gradient_bytes() == without.gradient_bytes()
    assert lean.matching_bytes(2) - without.matching_bytes(2) >= 2 * 1000
    assert lean.jacobian_bytes() > lean.matching_bytes()
