"""APRIL recovers the tokens of an attention without norm and skip connection, and tells where a net is not so built."""

import dataclasses

import pytest
import torch
from bench_nets import SPEC, clip, psnr, seeded, view_of
from torch import Tensor, nn

from auditor.attack.closed_form.april import April
from auditor.records import Budget, Outcome, Reconstruction, Skipped

BUDGET = Budget(seconds=20.0, steps=1)
SMALL = dataclasses.replace(SPEC, frames=2, height=8, width=8)
ATTACK = April()


class Net(nn.Module):
    """Eight tokens of 48 pixels; how the attention is built is told by flags."""

    def __init__(self, width=64, skip=False, norm=False, token=False, packed=True) -> None:
        super().__init__()
        self.embed = nn.Conv3d(3, width, (1, 4, 4), (1, 4, 4))
        self.token = nn.Parameter(0.1 * torch.randn(1, 1, width)) if token else None
        self.position = nn.Parameter(0.1 * torch.randn(1, 8 + token, width))
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.packed, self.skip = packed, skip
        if packed:
            self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        else:
            self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.mix, self.head = nn.Linear(width, width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        if self.token is not None:
            x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1)
        x = x + self.position
        z = self.norm(x)
        if self.packed:
            y, _ = self.attention(z, z, z, need_weights=False)
        else:
            y = (self.q(z) @ self.k(z).transpose(1, 2)).softmax(dim=-1) @ self.v(z)
        y = nn.functional.gelu(self.mix(y + x if self.skip else y))
        return self.head(y.mean(dim=1))


def view(make=Net, count=1, **given):
    return view_of(
        seeded(make), torch.stack([clip(3 + i, SMALL) for i in range(count)]), [5] * count, spec=SMALL, **given
    )


def test_the_equation_is_exact_in_float64():
    """An independent witness: plain autograd, no code of the attack."""
    net = seeded(lambda: Net(packed=False)).double()
    x = clip(3, SMALL)[None].double().transpose(1, 2)
    z = (net.embed(x).flatten(2).transpose(1, 2) + net.position)[0].detach()
    nn.functional.cross_entropy(net(x), torch.tensor([5])).backward()
    product = sum(m.weight.detach().T @ m.weight.grad for m in (net.q, net.k, net.v))
    delta = net.position.grad[0]
    assert float((delta.T @ z - product).norm() / product.norm()) < 1e-12
    assert float((torch.linalg.pinv(delta.T, rtol=1e-14) @ product - z).norm() / z.norm()) < 1e-6


@pytest.mark.parametrize(
    ("make", "decibels"), [(Net, 60.0), (lambda: Net(token=True), 60.0), (lambda: Net(packed=False), 40.0)]
)
def test_a_clip_is_read_off(make, decibels):
    made = ATTACK.invert(view(make), BUDGET, 0)
    assert isinstance(made, Reconstruction)
    assert made.outcome is Outcome.SOLVED
    assert made.certificate["update_residual"] < 1e-4
    assert psnr(made.clips[0], clip(3, SMALL)) > decibels
    assert psnr(made.clips[0], clip(50, SMALL)) < 25.0


def test_a_frozen_patch_embedding_does_not_help():
    sent = ["position", "attention.in_proj_weight", "head.weight"]
    made = ATTACK.invert(view(sent=sent), BUDGET, 0)
    assert isinstance(made, Reconstruction)
    assert psnr(made.clips[0], clip(3, SMALL)) > 60.0


def test_fewer_features_than_pixels_are_never_called_solved():
    made = ATTACK.invert(view(lambda: Net(width=40)), BUDGET, 0)
    assert isinstance(made, Reconstruction)
    assert made.outcome is Outcome.UNVERIFIED
    assert made.certificate["pixel_rank"] < 1.0
    assert "40 features for the 48 pixels" in made.notes[0]


@pytest.mark.parametrize(
    ("make", "given", "why"),
    [
        (Net, {"count": 2}, "2 clips"),
        (lambda: Net(norm=True), {}, "norm stands between"),
        (Net, {"sent": ["attention.in_proj_weight"]}, "no learned position embedding"),
    ],
)
def test_what_it_cannot_do_is_told(make, given, why):
    assert why in (ATTACK.obstacle(view(make, **given)) or "")


def test_an_update_that_is_not_finite_is_told():
    seen = view()
    gradients = {n: g * float("nan") for n, g in seen.update.gradients.items()}
    broken = dataclasses.replace(seen, update=dataclasses.replace(seen.update, gradients=gradients))
    assert ATTACK.obstacle(broken) == "the update is not finite"


@pytest.mark.parametrize(
    ("make", "given"), [(lambda: Net(skip=True), {}), (lambda: Net(packed=False), {"sent": ["position", "q.weight"]})]
)
def test_a_skip_connection_and_weights_that_are_missing_fail_the_rehearsal(make, given):
    seen = view(make, **given)
    assert ATTACK.obstacle(seen) is None
    made = ATTACK.invert(seen, BUDGET, 0)
    assert isinstance(made, Skipped)
    assert "skip connection" in made.reason or "sent" in made.reason or "norm" in made.reason
