"""Layer-wise recursion: every piece against autograd or linear algebra, and whole attacks on nets of the family."""

import dataclasses
import math

import pytest
import torch
from bench_nets import SPEC, Transformer, clip, flat, psnr, seeded, target_of, view_of
from torch import nn
from torch.nn import functional as F

from auditor.attack.matching.statistical_linearisation import SmoothRectifiers, smooth_relu
from auditor.attack.recursion.layer_inputs import Descent, descend
from auditor.attack.recursion.layer_recursion import LayerRecursion
from auditor.attack.recursion.subnetwork import chain, run
from auditor.attack.recursion.unit_inverse import invert_units
from auditor.attack.recursion.weight_system import _svd, columns, weight_system
from auditor.federated import LocalClient
from auditor.model import load
from auditor.prior.spectrum import Spectrum
from auditor.records import Budget, Clock, FederatedProtocol, Knowledge, Outcome, Reconstruction, Skipped, View
from auditor.solvers.gauss_newton import Linearised, gauss_newton

ATTACK = LayerRecursion()
BUDGET = Budget(seconds=60.0, steps=90)


def normal(*shape: int, seed: int = 0, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def two_layers(act=nn.Tanh) -> nn.Module:
    """Enough channels that both weight gradients determine what their layer read."""
    return nn.Sequential(
        nn.Conv3d(3, 64, 3, padding=1, stride=(1, 2, 2)), act(),
        nn.Conv3d(64, 32, 3, padding=1, stride=2), act(),
        nn.Flatten(), nn.Linear(32 * 2 * 4 * 4, 10),
    )  # fmt: skip


class PerFrame(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.frames = nn.Sequential(
            nn.Conv2d(3, 24, 5, 2, 2), nn.BatchNorm2d(24), nn.LeakyReLU(0.1), nn.Conv2d(24, 32, 3, 2, 1), nn.SiLU()
        )
        self.head = nn.Sequential(nn.Linear(4 * 32 * 16, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.frames(x.transpose(1, 2).flatten(0, 1)).reshape(len(x), -1))


# ------------------------------------------------------------------------------------------------- units, inverted

NORM = nn.BatchNorm3d(4).eval()
NORM.running_mean[:], NORM.running_var[:] = torch.tensor([0.1, -0.2, 0.3, 0.0]), torch.tensor([0.5, 2.0, 1.0, 0.1])
NORM.weight.data[:] = torch.tensor([1.0, -0.5, 2.0, 0.7])
MONOTONE = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "leaky": lambda z: F.leaky_relu(z, 0.1),
    "norm, sigmoid, frames first": lambda z: torch.sigmoid(NORM(z)).transpose(1, 2).flatten(1),
}


@pytest.mark.parametrize("name", MONOTONE)
def test_units_with_an_inverse_are_inverted(name):
    z, function = normal(1, 4, 3, 5, 5), MONOTONE[name]
    wanted = function(z).detach()
    pull = normal(*wanted.shape, seed=1)
    free = z.clone().requires_grad_(True)
    (expected,) = torch.autograd.grad(function(free), free, pull)
    found = invert_units(function, normal(*z.shape, seed=2), wanted, pull)
    assert found is not None
    assert float((found.value - z).abs().max()) < 1e-4
    assert torch.allclose(found.cotangent, expected.detach(), atol=1e-4)
    assert not bool(found.ambiguous.any())


def test_closed_rectifiers_are_known_to_lie_below_the_edge():
    z = normal(1, 4, 3, 5, 5)
    function = lambda v: F.relu(NORM(v))  # noqa: E731
    pull = normal(*z.shape, seed=1)
    found = invert_units(function, normal(*z.shape, seed=2), function(z).detach(), pull)
    open_ = NORM(z) > 0
    assert torch.equal(found.flat == 0, open_)
    assert float((found.value - z)[open_].abs().max()) < 1e-4
    # A negative weight of the norm turns the side round.
    assert bool((((z - found.value) * found.flat)[~open_] > -1e-4).all())
    assert {float(s) for s in found.flat[0, 1].unique()} <= {0.0, 1.0}
    assert bool((found.cotangent[~open_] == 0).all())


def test_gelu_has_two_values_where_it_is_negative():
    z = normal(1, 4, 3, 5, 5)
    found = invert_units(F.gelu, normal(*z.shape, seed=2), F.gelu(z), torch.ones_like(z))
    nearest = torch.minimum((found.value - z).abs(), (found.other - z).abs())
    assert float(nearest.max()) < 2e-3  # at its least value GELU is level
    away = (z < -0.1) & (z > -2.5)
    assert bool(found.ambiguous[away].all())
    assert not bool(found.ambiguous[z > 0].any())


@pytest.mark.parametrize(
    "mixes", [lambda z: F.avg_pool3d(z, (1, 5, 5)), lambda z: z.softmax(1), lambda z: F.layer_norm(z, z.shape[1:])]
)
def test_units_that_mix_are_not_inverted(mixes):
    z = normal(1, 4, 3, 5, 5)
    assert invert_units(mixes, z, mixes(z), torch.ones_like(mixes(z))) is None


# ------------------------------------------------------------------------------------------------ weight gradients

LAYERS = {
    "conv1d": (lambda: nn.Conv1d(3, 5, 4, stride=3, padding=2), (2, 3, 17)),
    "conv2d per frame, dilated": (lambda: nn.Conv2d(2, 6, 3, stride=2, padding=(1, 2), dilation=2), (4, 2, 11, 12)),
    "conv3d": (lambda: nn.Conv3d(2, 4, (3, 5, 2), stride=(1, 2, 3), padding=(1, 2, 0)), (1, 2, 4, 9, 11)),
    "linear": (lambda: nn.Linear(7, 9), (5, 7)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_equations_are_those_of_the_weights_gradient(name):
    make, shape = LAYERS[name]
    net = seeded(make).double()
    x = normal(*shape, dtype=torch.float64)
    seen, out = run(net, x, {"weight": net.weight})
    assert out is not None
    (call,) = seen["weight"]
    delta = normal(*out.shape, seed=1, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(out, net.weight, delta)
    system = weight_system(call, delta, gradient)
    assert torch.allclose(system.projections @ columns(x, call), system.known, atol=1e-9)
    assert system.residual < 1e-12

    # Nothing else is known: the rank is that of the map from inputs to gradients, by autograd.
    def again(value):
        return torch.autograd.grad(call(value), net.weight, delta, create_graph=True)[0]

    jacobian = torch.autograd.functional.jacobian(again, x).reshape(gradient.numel(), -1)
    assert len(system.projections) * system.known.shape[1] == int(torch.linalg.matrix_rank(jacobian))


def test_only_operations_that_the_whole_clip_passes_are_in_the_chain():
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv3d(3, 4, 3, padding=1), nn.Conv3d(4, 4, 3, padding=1)
            self.head = nn.Linear(4 * 1024, 10)

        def forward(self, x):
            y = self.a(x)
            return self.head((y + self.b(y.relu())).flatten(1))

    target = target_of(seeded(Skip))
    weights = {n: p for n, p in target.parameters.items() if p.dim() > 1}
    held = chain(target.model, torch.rand(1, *SPEC.clip_shape), weights)
    assert [call.weight for call in held] == ["a.weight", "head.weight"]


# ---------------------------------------------------------------------------------------------------- least squares


def test_the_smoothed_relu_is_its_mean_under_gaussian_error():
    z = torch.linspace(-2, 2, 9)
    drawn = (z + 0.7 * normal(200_000, 1)).clamp(min=0).mean(0)
    assert torch.allclose(smooth_relu(z, 0.7), drawn, atol=0.01)
    with SmoothRectifiers(1e-4):
        assert torch.allclose(F.leaky_relu(z, 0.2), torch.where(z > 0, z, 0.2 * z), atol=1e-3)
        assert float(nn.ReLU(inplace=True)(z.clone()).min()) >= 0.0


def test_gauss_newton_solves_a_linear_problem_in_one_step():
    a, b = normal(12, 8, dtype=torch.float64), normal(12, seed=1, dtype=torch.float64)
    step = gauss_newton(lambda z: [a @ z - b], torch.zeros(8, dtype=torch.float64), 50, 1e-12, Clock(60.0))
    expected = torch.linalg.solve(a.T @ a + torch.eye(8, dtype=torch.float64), a.T @ b)
    assert torch.allclose(step.variable, expected, atol=1e-8)
    assert step.length == 1.0


def test_draws_of_the_error_have_the_posterior_covariance():
    a = 2.0 * normal(6, 4, dtype=torch.float64)
    about = Linearised(lambda z: [a @ z], torch.zeros(4, dtype=torch.float64))
    draws = torch.stack([about.posterior_error(50, 1e-12, Clock(60.0), seed) for seed in range(3000)])
    expected = torch.linalg.inv(a.T @ a + torch.eye(4, dtype=torch.float64))
    assert torch.allclose(draws.T @ draws / len(draws), expected, atol=0.08 * float(expected.max()))


def test_a_spectrum_is_found_again_from_modes_drawn_from_it():
    shape = (8, 3, 16, 16)
    start = Spectrum()
    other = list(start.parameters)
    other[0], other[4] = other[0] + 1.0, other[4] + 0.8  # more contrast, faster motion
    truth = Spectrum(tuple(other)).variance(shape)
    found = start.fitted(truth * normal(*shape, dtype=torch.float64).square()).variance(shape)
    inside = torch.ones(shape, dtype=torch.bool)
    inside[0, :, 0, 0] = False
    before = (start.variance(shape) / truth).log()[inside].abs().mean()
    after = (found / truth).log()[inside].abs().mean()
    assert float(before) > 0.5
    assert float(after) < 0.2


# ----------------------------------------------------------------------------------------------------------- attacks


@pytest.mark.parametrize("act", [nn.Tanh, pytest.param(nn.SiLU, marks=pytest.mark.slow), lambda: nn.LeakyReLU(0.2)])
def test_a_net_whose_layers_are_all_determined_gives_the_clip_away_exactly(act):
    truth = clip(1)
    view = view_of(seeded(lambda: two_layers(act)), truth[None], [3])
    made = ATTACK.invert(view, BUDGET, 0)
    assert isinstance(made, Reconstruction)
    assert made.outcome is Outcome.SOLVED
    assert made.certificate["update_residual"] < 1e-3
    assert max(v for k, v in made.certificate.items() if k.startswith("system_residual")) < 1e-4
    assert psnr(made.clips[0], truth) > 60.0


@pytest.mark.slow
def test_units_that_equations_leave_undecided_are_decided_by_a_clip_that_is_nearly_right():
    truth = clip(1)
    view = view_of(seeded(lambda: two_layers(nn.GELU)), truth[None], [3])
    found = descend(view)
    assert isinstance(found, Descent)
    # Which of two values of GELU is the right one shows in whether the gradient has a solution.
    assert ("undecided" in found.ended) == (len(found.exact) < 3)
    again = descend(view, (truth + 0.02 * normal(*truth.shape)).clamp(0.0, 1.0)[None])
    assert not again.ended
    assert len(again.exact) == 3
    noise = (again.deepest.value - truth[None].transpose(1, 2)).square().mean()
    assert float(noise) < 1e-5  # 50 dB: where GELU is level a value is known to half the digits


def test_a_label_is_not_needed():
    truth = clip(1)
    view = view_of(seeded(two_layers), truth[None], [3], known=False)
    found = descend(view)
    assert isinstance(found, Descent)
    assert not found.ended


@pytest.mark.parametrize(("act", "above"), [(nn.ReLU, 19.0), (nn.GELU, 21.0)])
def test_underdetermined_layers_leave_a_fit_that_sees_far_more_than_grey(act, above):
    truth = clip(2)
    made = ATTACK.invert(view_of(seeded(lambda: flat(act)), truth[None], [3]), BUDGET, 0)
    assert isinstance(made, Reconstruction)
    assert made.outcome is not Outcome.SOLVED
    assert psnr(made.clips[0], truth) > above
    # Another client's update says nothing about this clip.
    null = ATTACK.invert(view_of(seeded(lambda: flat(act)), clip(5)[None], [3]), BUDGET, 0)
    assert psnr(null.clips[0], truth) < psnr(torch.full_like(truth, 0.5), truth) + 3.0


@pytest.mark.slow
def test_frames_norms_and_a_deeper_head_are_gone_through():
    truth = clip(3)
    view = view_of(seeded(PerFrame), truth[None], [1])
    found = descend(view)
    assert isinstance(found, Descent)
    assert next(iter(found.exact)) == "head.0.weight"
    assert len(found.exact) > 1
    made = ATTACK.invert(view, BUDGET, 0)
    assert psnr(made.clips[0], truth) > 30.0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_imported_graph_gives_what_the_module_gives(tmp_path):
    net, truth = seeded(two_layers), clip(1)
    torch.onnx.export(net, (torch.rand(1, *SPEC.clip_shape).transpose(1, 2),), str(tmp_path / "n.onnx"), dynamo=False)
    target = load(str(tmp_path / "n.onnx"))
    client = LocalClient(target.model, FederatedProtocol(sent=tuple(target.parameters)))
    knows = Knowledge(clip_shape=SPEC.clip_shape, batch=1, classes=10, labels=(3,))
    view = View(target=target, client=client, update=client.update(truth[None], torch.tensor([3])), knowledge=knows)
    made = ATTACK.invert(view, BUDGET, 0)
    assert made.outcome is Outcome.SOLVED
    assert psnr(made.clips[0], truth) > 60.0


def test_other_structures_are_declined_in_one_clause():
    view = view_of(seeded(Transformer), clip()[None], [3])
    assert ATTACK.obstacle(view) is None
    said = descend(view)
    made = ATTACK.invert(view, BUDGET, 0)
    if isinstance(said, str):
        assert isinstance(made, Skipped)
        assert made.reason == said
    else:  # the head's input is exact; what lies between tokens and head mixes
        assert "mixed" in said.ended


def test_no_head_bias_and_several_clips_are_declined():
    net = seeded(
        lambda: nn.Sequential(nn.Conv3d(3, 4, 3, 2, 1), nn.Tanh(), nn.Flatten(), nn.Linear(512, 10, bias=False))
    )
    made = ATTACK.invert(view_of(net, clip()[None], [3]), BUDGET, 0)
    assert isinstance(made, Skipped)
    assert "gives its input away" in made.reason
    both = view_of(seeded(flat), torch.stack([clip(0), clip(1)]), [3, 4])
    assert "2 clips" in ATTACK.obstacle(both)


@pytest.mark.parametrize("behind", [nn.Flatten, lambda: nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten())])
def test_units_that_work_in_place_change_nothing(behind):
    def net(inplace):
        act = nn.ReLU if behind is not nn.Flatten else nn.LeakyReLU
        top = nn.Sequential(nn.Conv3d(12, 96, 3, padding=1, stride=2), act(inplace=inplace), behind())
        body = nn.Sequential(nn.Conv3d(3, 12, 3, padding=1, stride=(2, 4, 4)), act(inplace=inplace), top)
        return nn.Sequential(body, nn.LazyLinear(10))

    nets = [seeded(lambda on=on: net(on)) for on in (False, True)]
    for each in nets:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            each(clip().transpose(0, 1)[None])
    views = [view_of(each, clip()[None], [3]) for each in nets]
    usual, inplace = (ATTACK.invert(view, dataclasses.replace(BUDGET, steps=20), 0) for view in views)
    assert isinstance(usual, Reconstruction)
    assert isinstance(inplace, Reconstruction)
    assert usual.notes == inplace.notes
    assert torch.allclose(usual.clips, inplace.clips, atol=1e-3)


def test_numbers_that_are_not_finite_are_declined():
    view = view_of(seeded(flat), clip()[None], [3])
    sent = {n: g.clone() for n, g in view.update.gradients.items()}
    next(iter(sent.values())).view(-1)[0] = math.nan
    bad = dataclasses.replace(view, update=dataclasses.replace(view.update, gradients=sent))
    assert ATTACK.obstacle(bad) == "the update holds values that are not finite"


def swapped(view: View, name: str, gradient: torch.Tensor) -> View:
    sent = {**view.update.gradients, name: gradient}
    return dataclasses.replace(view, update=dataclasses.replace(view.update, gradients=sent))


def test_a_head_that_read_only_zeros_is_declined():
    view = view_of(seeded(flat), clip()[None], [3])
    made = ATTACK.invert(swapped(view, "5.weight", torch.zeros_like(view.update.gradients["5.weight"])), BUDGET, 0)
    assert isinstance(made, Skipped)
    assert made.reason == "5.weight read nothing but zeros"


def test_gradients_that_contradict_each_other_are_told():
    view = view_of(seeded(lambda: two_layers(nn.LeakyReLU)), clip()[None], [3])
    made = descend(swapped(view, "2.weight", normal(*view.update.gradients["2.weight"].shape)))
    assert isinstance(made, Descent)
    assert "contradicts" in made.ended


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (12, 15)])
def test_long_matrices_are_decomposed_alike(shape):
    matrix = normal(*shape, dtype=torch.float64)
    u, s, v = _svd(matrix)
    torch.testing.assert_close((u * s) @ v, matrix)
    torch.testing.assert_close(s, torch.linalg.svdvals(matrix))
    torch.testing.assert_close(v @ v.T, torch.eye(12, dtype=torch.float64))


def test_a_net_whose_head_is_a_convolution_is_told_before_anything_is_computed(monkeypatch):
    net = nn.Sequential(nn.Conv3d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Conv3d(8, 10, 1), nn.Flatten())
    view = view_of(seeded(lambda: net), clip(0)[None], [3])
    monkeypatch.setattr(type(view.target.model), "forward", lambda *_: pytest.fail("the net was run"))
    assert ATTACK.obstacle(view).startswith("no Linear layer")
