"""What people do in forward: cut gradients, keep states, compile, checkpoint, define derivatives; all told at load."""

import pytest
import torch
from refusals import fails

from auditor.errors import NotAuditable
from auditor.model import load

NETS = """
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx, g):
        x, = ctx.saved_tensors
        return g * slope(x)

def slope(x):
    p = x.sigmoid()
    return p * (1 + x * (1 - p))

class Once(Swish):
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        x, = ctx.saved_tensors
        return g * slope(x)

class Cut(Swish):
    @staticmethod
    def backward(ctx, g):
        x, = ctx.saved_tensors
        return g * slope(x.detach())

@torch.compile
def tanh(x): return x.tanh()

class Net(nn.Module):
    input_shape, layout = (3, 4, 8, 8), "NCTHW"

    def __init__(self, form):
        super().__init__()
        torch.manual_seed(0)
        self.form, self.before = form, 0
        self.body = nn.Sequential(nn.Conv3d(3, 4, 3, 2, 1), nn.Tanh())
        self.head = nn.Linear(4 * 32, 5)
        if form == "one of two":
            self.side = nn.Conv3d(3, 4, 3, 2, 1)
        if form == "compiled part":
            self.body = torch.compile(self.body)

    def forward(self, x):
        if self.form == "rounds":
            x = (x * 255).round() / 255
        if self.form in ("no_grad", "one of two"):
            with torch.no_grad():
                f = self.body(x)
        elif self.form == "numpy":
            f = torch.from_numpy(self.body(x).numpy())
        elif self.form == "detach":
            f = self.body(x).detach()
        elif self.form in ("reentrant", "checkpoint"):
            f = checkpoint(self.body, x, use_reentrant=self.form == "reentrant")
        elif self.form == "compiles":
            f = torch.compile(self.body)(x)
        elif self.form == "compiled function":
            f = tanh(self.body[0](x))
        elif self.form == "in place":
            x.sub_(0.5).div_(0.25)
            x[:, :, ::2] *= 0.5
            f = self.body(x.view(x.size(0), -1).view(x.shape))
        elif self.form in ("Swish", "Once", "Cut"):
            f = globals()[self.form].apply(self.body[0](x))
        else:
            f = self.body(x)
        if self.form == "one of two":
            f = f + self.side(x).tanh()
        if self.form == "mixing":
            f = f - 0.1 * f.mean(0, keepdim=True)
        if self.form == "memory":
            f, self.before = f + 0.5 * self.before, f.detach().mean(0, keepdim=True)
        return self.head(f.flatten(1))

def net(form): return Net(form)
def compiled(): return torch.compile(Net("plain"))
def in_place():
    made = Net("plain")
    made.compile()
    return made
class Decorated(Net):
    @torch.compile
    def forward(self, x): return self.head(self.body(x).flatten(1))
def decorated(): return Decorated("plain")
def own_forward():
    made = Net("plain")
    made.forward = torch.compile(made.forward)
    return made
def parallel(): return nn.DataParallel(Net("plain"))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("habits") / "nets.py"
    path.write_text(NETS)
    return str(path)


def form(source: str, name: str):
    return load(f"{source}:net", arg=(("form", name),))


@pytest.mark.parametrize("name", ["no_grad", "detach", "one of two"])
def test_derivatives_go_through_a_part_that_is_cut_and_nobody_sends_it(name, source) -> None:
    target = form(source, name)
    fidelity = target.fidelity
    assert target.frozen == ("body.0.weight", "body.0.bias")
    assert (fidelity.blind, fidelity.missing, fidelity.double_backward) == ((), (), True)
    assert f"of 2 of {6 if name == 'one of two' else 4} parameters" in " ".join(fidelity.notes)
    clip = torch.rand(1, 4, 3, 8, 8).requires_grad_()
    (slope,) = torch.autograd.grad(target.model(clip).sum(), clip)
    body, head = target.model.network.body, target.model.network.head
    logits = head(
        (
            body(clip.transpose(1, 2))
            + (target.model.network.side(clip.transpose(1, 2)).tanh() if name == "one of two" else 0)
        ).flatten(1)
    )
    torch.testing.assert_close(slope, torch.autograd.grad(logits.sum(), clip)[0])


def test_a_rounding_before_the_first_layer_is_seen_through(source) -> None:
    fidelity = form(source, "rounds").fidelity
    assert (fidelity.blind, fidelity.missing, fidelity.double_backward) == ((), (), True)
    assert "straight-through" in fidelity.notes[0]


@pytest.mark.parametrize("name", ["plain", "checkpoint", "Swish"])
def test_nothing_is_told_of_nets_that_hide_nothing(name, source) -> None:
    fidelity = form(source, name).fidelity
    assert (fidelity.missing, fidelity.notes, fidelity.double_backward) == ((), (), True)


def test_reentrant_checkpoints_have_the_same_second_derivatives(source) -> None:
    plain, other = form(source, "plain"), form(source, "reentrant")
    assert other.fidelity.double_backward
    found = []
    for target in (plain, other):
        clip = torch.rand(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
        values = list(target.parameters.values())
        gradients = torch.autograd.grad(target.model(clip).square().sum(), values, create_graph=True, allow_unused=True)
        total = sum(g.square().sum() for g in gradients if g is not None)
        found.append(torch.autograd.grad(total, clip)[0])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize(("name", "word"), [("Once", "once only"), ("Cut", "finite differences")])
def test_second_derivatives_that_are_wrong_do_not_count(name, word, source) -> None:
    fidelity = form(source, name).fidelity
    assert not fidelity.double_backward
    assert any(name in note and word in note for note in fidelity.notes)


def test_clips_that_change_each_other_in_a_batch_are_told(source) -> None:
    (told,) = form(source, "mixing").fidelity.missing
    assert "Clips of one batch change each other's logits" in told


def test_a_net_that_remembers_clips_is_refused(source) -> None:
    """Its state settles while one clip is shown again and again."""
    fails(NotAuditable, "remembers earlier clips", source=f"{source}:net", arg=(("form", "memory"),))


@pytest.mark.parametrize("name", ["compiled", "in_place", "decorated", "own_forward", "parallel"])
def test_wrappers_that_compute_the_same_are_taken_off(name, source) -> None:
    target = load(f"{source}:{name}")
    assert list(target.parameters) == list(form(source, "plain").parameters)
    assert target.fidelity.double_backward  # compiled code has no second derivatives
    assert any("computes the same" in note for note in target.fidelity.notes)


def test_a_compiled_part_is_taken_as_it_is(source) -> None:
    target = form(source, "compiled part")
    assert "body.0.weight" in target.parameters
    assert target.fidelity.double_backward


@pytest.mark.parametrize("name", ["compiles", "compiled function"])
def test_what_forward_compiles_runs_as_plain_python(name, source) -> None:
    target = form(source, name)
    clip = torch.rand(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(target.model(clip), form(source, "plain").model(clip))
    assert target.fidelity.double_backward


def test_a_net_may_write_into_its_clips_and_view_them_as_rows(source) -> None:
    """As a loader of data gives them: in a tensor of their own, in order."""
    target = form(source, "in place")
    clip = torch.rand(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    kept = clip.clone()
    rescaled = (clip - 0.5) / 0.25
    rescaled[:, ::2] *= 0.5
    assert torch.allclose(target.model(clip), form(source, "plain").model(rescaled), atol=1e-6)
    assert torch.equal(clip, kept)
    assert target.fidelity.double_backward
    assert target.fidelity.blind == ()


def test_a_net_that_runs_without_gradients_only_is_refused_for_that(source) -> None:
    fails(NotAuditable, "not where gradients are computed", source=f"{source}:net", arg=(("form", "numpy"),))
