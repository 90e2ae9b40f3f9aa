"""Each closed form against a case with a known answer."""

import pytest
import torch
from bench_nets import SPEC, Transformer, clip, flat, mlp, pooled, psnr, seeded, view_of

from auditor.attack.closed_form.linear_input import LinearInversion, recover_linear_input
from auditor.attack.closed_form.patch_embedding import PatchEmbeddingInversion
from auditor.attack.closed_form.pixel_map import pixel_map
from auditor.records import Budget, Outcome, Reconstruction, Skipped

BUDGET = Budget(seconds=60.0, steps=1)


def test_a_linear_on_pixels_gives_the_clip_away():
    truth = clip(1)
    view = view_of(seeded(mlp), truth[None], [3])
    attack = LinearInversion()
    assert attack.obstacle(view) is None
    made = attack.invert(view, BUDGET, 0)
    assert isinstance(made, Reconstruction)
    assert made.outcome is Outcome.SOLVED
    assert psnr(made.clips[0], truth) > 60.0
    assert made.certificate["pixel_coverage"] == 1.0


def test_features_before_a_linear_are_exact_but_are_not_called_a_clip():
    truth = clip(2)
    net = seeded(flat)
    view = view_of(net, truth[None], [3])
    layer = next(x for x in view.target.layers if x.kind == "linear")
    found = recover_linear_input(view, layer)
    with torch.no_grad():
        features = net[:-1](truth.transpose(0, 1)[None]).reshape(-1)
    assert found is not None
    assert float((found.value.float() - features).norm() / features.norm()) < 1e-4
    skipped = LinearInversion().invert(view, BUDGET, 0)
    assert isinstance(skipped, Skipped)
    assert "features" in skipped.reason


def test_two_clips_in_a_linear_are_refused():
    view = view_of(seeded(mlp), torch.stack([clip(1), clip(2)]), [3, 4])
    assert "2 clips" in (LinearInversion().obstacle(view) or "")


def test_a_rank_two_gradient_is_not_taken_for_one_row():
    view = view_of(seeded(mlp), torch.stack([clip(1), clip(2)]), [3, 4])
    layer = next(x for x in view.target.layers if x.kind == "linear")
    assert recover_linear_input(view, layer) is None


@pytest.mark.parametrize("token", [False, True])
@pytest.mark.parametrize("linear", [False, True])
def test_patch_embedding_gives_the_clip_away(token, linear):
    truth = clip(3)
    view = view_of(seeded(lambda: Transformer(token=token, linear=linear)), truth[None], [5])
    attack = PatchEmbeddingInversion()
    assert attack.obstacle(view) is None
    made = attack.invert(view, BUDGET, 0)
    assert isinstance(made, Reconstruction), made
    assert made.outcome is Outcome.SOLVED
    assert psnr(made.clips[0], truth) > 60.0
    assert made.certificate["rank"] == 32


class Transposed(torch.nn.Module):
    """Multiplies by a weight stored (inputs, outputs), as ONNX files do."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(linear.weight.detach().T.clone())

    def forward(self, x):
        return x @ self.weight


def test_a_square_weight_stored_the_other_way_round_is_solved_too():
    def make():
        net = Transformer(linear=True, width=96)
        net.embed = Transposed(net.embed)
        return net

    truth = clip(3)
    made = PatchEmbeddingInversion().invert(view_of(seeded(make), truth[None], [5]), BUDGET, 0)
    assert isinstance(made, Reconstruction), made
    assert made.outcome is Outcome.SOLVED
    assert psnr(made.clips[0], truth) > 60.0


def test_fixed_positions_do_not():
    view = view_of(seeded(lambda: Transformer(learned=False)), clip(3)[None], [5])
    attack = PatchEmbeddingInversion()
    made = "obstacle" if attack.obstacle(view) else attack.invert(view, BUDGET, 0)
    assert made == "obstacle" or isinstance(made, Skipped) or made.outcome is Outcome.UNVERIFIED


def test_a_norm_between_breaks_the_identity_and_the_certificate_says_so():
    truth = clip(3)
    view = view_of(seeded(lambda: Transformer(norm=True)), truth[None], [5])
    made = PatchEmbeddingInversion().invert(view, BUDGET, 0)
    assert isinstance(made, Skipped) or made.outcome is Outcome.UNVERIFIED


def test_pixel_map_inverts_any_rearrangement_and_normalisation():
    net = seeded(lambda: Transformer(linear=True))
    view = view_of(net, clip(0)[None], [1])
    found = pixel_map(view.target.model, "embed.weight", SPEC.clip_shape, torch.device("cpu"))
    assert found is not None
    assert found.coverage == 1.0
    truth = clip(9)
    seen, _ = view.target.model.inputs_of("embed.weight", truth[None])
    assert torch.allclose(found.to_clip(seen.double()), truth, atol=1e-5)


def test_pixel_map_knows_what_is_not_pixels():
    view = view_of(seeded(pooled), clip(0)[None], [1])
    assert pixel_map(view.target.model, "5.weight", SPEC.clip_shape, torch.device("cpu")) is None


@pytest.mark.parametrize("attack", [PatchEmbeddingInversion(), LinearInversion()])
def test_layers_behind_others_are_not_asked_for_pixels(attack, monkeypatch):
    """A pass of a large transformer takes ten seconds, and it has sixty layers as wide as its embedding."""
    asked = []
    view = view_of(seeded(Transformer), clip(0)[None], [1])
    inputs_of = type(view.target.model).inputs_of
    monkeypatch.setattr(type(view.target.model), "inputs_of", lambda m, n, x: asked.append(n) or inputs_of(m, n, x))
    attack.invert(view, BUDGET, 0)
    assert {name.rpartition(".")[0] for name in asked} <= {"embed"}


def test_what_a_layer_reads_keeps_no_graph_where_nobody_differentiates():
    model = view_of(seeded(lambda: Transformer(linear=True)), clip(0)[None], [1]).target.model
    with torch.no_grad():
        plain, _ = model.inputs_of("embed.weight", clip(9)[None])
    seen, made = model.inputs_of("embed.weight", clip(9)[None].requires_grad_())
    assert not plain.requires_grad
    assert seen.requires_grad
    assert made.requires_grad
    assert torch.equal(plain, seen)


def test_a_second_look_at_what_a_layer_reads_runs_no_further_than_that():
    view = view_of(seeded(lambda: Transformer(linear=True)), clip(0)[None], [1])
    model = view.target.model
    reached = []
    hook = model.network.get_submodule("head").register_forward_hook(lambda *_: reached.append(1))
    with torch.no_grad():
        first, second = (model.inputs_of("embed.weight", clip(9)[None]) for _ in range(2))
    hook.remove()
    assert reached == [1]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


ROUNDINGS = {
    "8 bits": lambda x: torch.round(x * 255) / 255,
    "bytes, cut off": lambda x: (x * 255).to(torch.uint8).float() / 255,
    "64 levels": lambda x: torch.floor(x * 64) / 64,
    "4 levels": lambda x: torch.floor(x * 4) / 4,
}


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_a_linear_on_rounded_pixels_gives_the_rounded_clip_away(rounding):
    class Rounded(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp()

        def forward(self, x):
            return self.net(ROUNDINGS[rounding](x))

    truth = clip(1)
    made = LinearInversion().invert(view_of(seeded(Rounded), truth[None], [3]), BUDGET, 0)
    assert isinstance(made, Reconstruction)
    assert made.outcome is Outcome.SOLVED
    assert psnr(made.clips[0], ROUNDINGS[rounding](truth)) > 60.0
