"""Two-part models: the gradients of a frozen extractor and a trained head, whatever each of them comes from."""

import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from auditor.errors import NotAuditable, UsageError
from auditor.federated import LocalClient
from auditor.model import load_two_part
from auditor.model.two_part import joined, possible_joins
from auditor.records import FederatedProtocol, Target

NETS = Path(__file__).parent.parent / "two_part_nets.py"
CLIPS = torch.rand(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(3))
LABELS = torch.tensor([1, 3])


def write(module: nn.Module, example: torch.Tensor, path: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), (example,), str(path), dynamo=False, do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,
        )  # fmt: skip
    return str(path)


@pytest.fixture(scope="module")
def nets():
    import two_part_nets

    return two_part_nets


@pytest.fixture(scope="module")
def source(nets, tmp_path_factory):
    """Return where a net of `two_part_nets` can be loaded from, in either format."""
    folder = tmp_path_factory.mktemp("parts")
    made: dict[tuple[str, tuple[int, ...]], str] = {}

    def get(name: str, form: str, shape: tuple[int, ...] = ()) -> str:
        if form == "pytorch":
            return f"{NETS}:{name}"
        if (name, shape) not in made:
            made[name, shape] = write(getattr(nets, name)(), torch.rand(shape), folder / f"{name}.onnx")
        return made[name, shape]

    return get


def composed(nets, extractor: str, head: str, between=lambda f: f) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """Return the gradient of the head that plain PyTorch computes, by the name in the head."""
    first, second = getattr(nets, extractor)().eval(), getattr(nets, head)().eval()
    with torch.no_grad():
        features = between(first(CLIPS.transpose(1, 2)))
    F.cross_entropy(second(features), LABELS).backward()
    return second, {name: p.grad for name, p in second.named_parameters()}


def sent(target: Target, mode: str = "eval") -> dict[str, torch.Tensor]:
    names = tuple(n for n in target.parameters if n not in target.frozen)
    return LocalClient(target.model, FederatedProtocol(sent=names, bn=mode))(CLIPS, LABELS)


@pytest.mark.parametrize("first", ["onnx", "pytorch"])
@pytest.mark.parametrize("second", ["onnx", "pytorch"])
def test_gradients_are_those_of_the_composed_module(nets, source, first, second):
    target = load_two_part(source("clip_features", first, (1, 3, 4, 16, 16)), source("mlp", second, (1, 12)))
    _, expected = composed(nets, "clip_features", "mlp")
    update = sent(target)
    assert set(update) == {f"head.{name}" for name in expected}
    for name, gradient in expected.items():
        torch.testing.assert_close(update[f"head.{name}"], gradient, rtol=1e-4, atol=1e-7)
    assert [part.format for part in target.parts] == [first, second]
    assert target.classes == 5
    assert target.fidelity.double_backward
    assert target.fidelity.gradient_check < 1e-4
    checked = [part.fidelity.parity_max_error for part in target.parts]
    assert [error is not None for error in checked] == [first == "onnx", second == "onnx"]
    assert (target.fidelity.parity_max_error is not None) == ("onnx" in (first, second))
    assert all(error is None or error < 1e-4 for error in (*checked, target.fidelity.parity_max_error))


def test_layers_and_names_are_told_apart_by_part(nets, source):
    target = load_two_part(source("clip_features", "onnx", (1, 3, 4, 16, 16)), source("mlp", "pytorch"))
    assert {n.partition(".")[0] for n in target.parameters} == {"extractor", "head"}
    assert set(target.frozen) == {n for n in target.parameters if n.startswith("extractor.")}
    assert not any(target.parameters[n].requires_grad for n in target.frozen)
    assert [layer.kind for layer in target.layers] == ["conv3d", "norm", "linear", "linear"]
    assert [layer.index for layer in target.layers] == [0, 1, 2, 3]
    assert [layer.name for layer in target.layers[2:]] == ["head.0", "head.2"]
    assert target.layers[2].rows == 1
    seen, _ = target.model.inputs_of("head.0.weight", CLIPS[:1])
    torch.testing.assert_close(seen, nets.clip_features().eval()(CLIPS[:1].transpose(1, 2)), rtol=1e-4, atol=1e-6)


def test_the_gradient_of_the_head_can_be_differentiated_by_the_clip(nets, source):
    target = load_two_part(source("clip_features", "onnx", (1, 3, 4, 16, 16)), source("mlp", "onnx", (1, 12)))
    names = tuple(n for n in target.parameters if n not in target.frozen)
    x = CLIPS.clone().requires_grad_()
    gradients = LocalClient(target.model, FederatedProtocol(sent=names))(x, LABELS, create_graph=True)
    (found,) = torch.autograd.grad(sum(g.square().sum() for g in gradients.values()), x)

    first, second = nets.clip_features().eval(), nets.mlp().eval()
    y = CLIPS.clone().requires_grad_()
    loss = F.cross_entropy(second(first(y.transpose(1, 2))), LABELS)
    plain = torch.autograd.grad(loss, list(second.parameters()), create_graph=True)
    (expected,) = torch.autograd.grad(sum(g.square().sum() for g in plain), y)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("form", ["onnx", "pytorch"])
def test_batchnorm_of_the_extractor_never_follows_the_client(nets, source, form):
    target = load_two_part(source("clip_features", form, (1, 3, 4, 16, 16)), source("normed", form, (2, 12)))
    evaluating, training = sent(target), sent(target, "train")
    first, second = nets.clip_features().eval(), nets.normed().train()
    with torch.no_grad():
        features = first(CLIPS.transpose(1, 2))
    F.cross_entropy(second(features), LABELS).backward()
    expected = {f"head.{name}": p.grad for name, p in second.named_parameters()}
    for name, gradient in expected.items():
        torch.testing.assert_close(training[name], gradient, rtol=1e-3, atol=1e-5)
    assert max(float((evaluating[n] - training[n]).abs().max()) for n in expected) > 1e-2
    assert target.fidelity.batchnorm == "kept"


@pytest.mark.parametrize("form", ["onnx", "pytorch"])
def test_an_extractor_of_frames_feeds_a_recurrent_head(nets, source, form):
    target = load_two_part(
        source("frame_features", form, (1, 3, 16, 16)), source("recurrent", form, (1, 4, 6)),
        input_shape=(4, 3, 16, 16), layout="NCHW",
    )  # fmt: skip
    assert any("as a sequence (1, 4, 6)" in note for note in target.fidelity.notes)
    first, second = nets.frame_features().eval(), nets.recurrent().eval()
    with torch.no_grad():
        features = first(CLIPS.flatten(0, 1)).unflatten(0, (2, 4))
    logits = second(features)
    torch.testing.assert_close(target.model(CLIPS), logits, rtol=1e-4, atol=1e-6)
    F.cross_entropy(logits, LABELS).backward()
    update = sent(target)
    if form == "pytorch":  # an export stacks the gates in another order
        for name, p in second.named_parameters():
            torch.testing.assert_close(update[f"head.{name}"], p.grad, rtol=1e-4, atol=1e-7)
    else:
        assert sum(g.numel() for g in update.values()) == sum(p.numel() for p in second.parameters())


def test_a_linear_head_on_frames_answers_for_each(nets, source):
    target = load_two_part(
        source("frame_features", "pytorch"), source("on_frames", "pytorch"), input_shape=(4, 3, 16, 16), layout="NCHW"
    )
    assert any("answers for each of the 4 rows" in note for note in target.fidelity.notes)
    first, second = nets.frame_features().eval(), nets.on_frames().eval()
    expected = second(first(CLIPS.flatten(0, 1))).unflatten(0, (2, 4)).mean(1)
    torch.testing.assert_close(target.model(CLIPS), expected, rtol=1e-5, atol=1e-7)


def test_maps_are_averaged_where_the_head_leaves_no_other_choice(nets, source):
    target = load_two_part(source("maps", "pytorch"), source("mlp", "onnx", (1, 12)))
    assert any("are averaged over their extent" in note for note in target.fidelity.notes)
    expected = nets.mlp().eval()(nets.maps().eval()(CLIPS.transpose(1, 2)).mean((2, 3, 4)))
    torch.testing.assert_close(target.model(CLIPS), expected, rtol=1e-4, atol=1e-6)


def test_the_user_may_choose_the_join(nets, source):
    target = load_two_part(
        source("frame_features", "pytorch"), source("on_frames", "pytorch"),
        input_shape=(4, 3, 16, 16), layout="NCHW", join="mean",
    )  # fmt: skip
    assert target.layers[-1].rows == 1
    with pytest.raises(UsageError, match=r"--join flatten does not fit.*\(4, 6\).*\(1, 24\)"):
        load_two_part(
            source("frame_features", "pytorch"), source("on_frames", "pytorch"),
            input_shape=(4, 3, 16, 16), layout="NCHW", join="flatten",
        )  # fmt: skip


def test_two_ways_that_fit_are_a_question_to_the_user(source):
    with pytest.raises(UsageError, match="none and sequence") as caught:
        load_two_part(
            source("frame_features", "pytorch"), source("either", "pytorch"),
            input_shape=(4, 3, 16, 16), layout="NCHW",
        )  # fmt: skip
    assert caught.value.remedy == "--join none or --join sequence"


@pytest.mark.parametrize(
    ("form", "told"), [("onnx", r"\(1, 12\).*reads \(N, 7\)"), ("pytorch", r"\(1, 12\).*1x12 and 7x5")]
)
def test_features_that_do_not_fit_name_both_shapes(source, form, told):
    with pytest.raises(UsageError, match=told):
        load_two_part(source("clip_features", "pytorch"), source("narrow", form, (1, 7)))


def test_a_head_that_mixes_clips_is_refused(source):
    with pytest.raises(UsageError, match="mixes the clips of a batch"):
        load_two_part(source("clip_features", "pytorch"), source("mixing", "pytorch"))


def test_errors_name_the_part(source, tmp_path):
    with pytest.raises(UsageError, match=r"^--head: there is no file"):
        load_two_part(source("clip_features", "pytorch"), str(tmp_path / "head.onnx"))
    with pytest.raises(UsageError, match=r"--extractor-weights does not apply"):
        load_two_part(
            source("clip_features", "onnx", (1, 3, 4, 16, 16)), source("mlp", "pytorch"),
            extractor_weights=tmp_path / "w.pt",
        )  # fmt: skip
    with pytest.raises(NotAuditable, match="--head: the model has no trainable float parameter"):
        load_two_part(source("clip_features", "pytorch"), source("empty", "pytorch"))


def test_weights_of_each_part_are_read(nets, source, tmp_path):
    torch.manual_seed(8)
    state = {name: torch.randn_like(value) for name, value in nets.mlp().state_dict().items()}
    torch.save(state, tmp_path / "head.pt")
    target = load_two_part(
        source("clip_features", "pytorch"), source("mlp", "pytorch"), head_weights=tmp_path / "head.pt"
    )
    for name, value in state.items():
        torch.testing.assert_close(target.parameters[f"head.{name}"].detach(), value)


def test_a_library_extractor_loses_its_classifier(source):
    target = load_two_part("torchvision:squeezenet1_1", source("of_squeezenet", "pytorch"), input_shape=(2, 3, 64, 64))
    assert not [n for n in target.parameters if n.startswith("extractor.classifier")]
    assert any("'classifier' was taken off" in note for note in target.fidelity.notes)


def test_a_folded_extractor_is_no_upper_bound(nets, tmp_path, source):
    path = tmp_path / "folded.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(nets.clip_features().eval(), (torch.rand(1, 3, 4, 16, 16),), str(path), dynamo=False)
    target = load_two_part(str(path), source("mlp", "pytorch"))
    assert target.parts[0].fidelity.batchnorm == "folded"
    assert not target.fidelity.upper_bound
    _, expected = composed(nets, "clip_features", "mlp")
    for name, gradient in expected.items():
        torch.testing.assert_close(sent(target)[f"head.{name}"], gradient, rtol=1e-3, atol=1e-6)


def test_joins_by_hand():
    features = torch.arange(2 * 3 * 4 * 2 * 2.0).reshape(6, 4, 2, 2)  # two clips of three frames, maps of 2 x 2
    assert joined(features, "sequence", 3).shape == (2, 3, 4, 2, 2)
    assert joined(features, "flatten", 3).shape == (2, 48)
    torch.testing.assert_close(joined(features, "pool", 3), features.mean((2, 3)))
    torch.testing.assert_close(joined(features, "pool-sequence", 3)[1, 2], features[5].mean((1, 2)))
    torch.testing.assert_close(joined(features, "mean", 3)[1], features[3:].mean((0, 2, 3)))
    tokens = torch.rand(2, 5, 7)
    torch.testing.assert_close(joined(tokens, "pool", 1), tokens.mean(1))
    assert possible_joins((3, 4, 2, 2))[0] == ("none", "sequence")
