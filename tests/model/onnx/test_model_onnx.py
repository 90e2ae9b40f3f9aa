"""Imported graphs against the modules they were exported from: outputs, gradients, second derivatives, batches."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from zoo import NETS

from auditor.model import OnnxModule, VideoModel, load

# Exports by dynamo take seconds each, so the default run has one net of every kind, most of them by one way to call it.
BY_DYNAMO = {
    "dynamo": ("conv3d", "pooled", "encoder", "gru"),
    "dynamo-plain": ("pooled", "groupnorm", "vivit-cls", "gru", "squeeze-excite"),
}
MATRIX = [
    pytest.param(name, exporter, marks=[] if name in BY_DYNAMO.get(exporter, NETS) else [pytest.mark.slow])
    for name in NETS
    for exporter in ("legacy", "legacy-training", "dynamo", "dynamo-plain")
]
RECURRENT = ("gru", "gru-both", "lstm")
FOLDED = (("pooled", "dynamo"), ("pooled", "legacy"))


def loss_of(logits: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, torch.arange(logits.shape[0]))


def gradients(model: nn.Module, clips: Tensor) -> dict[str, Tensor]:
    names, values = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss_of(model(clips)), values, allow_unused=True)
    return {n: torch.zeros_like(v) if g is None else g for n, v, g in zip(names, values, found, strict=True)}


def twin(value: Tensor, candidates: dict[str, Tensor]) -> tuple[str, bool] | None:
    """Find the original parameter with the same numbers, plain or transposed."""
    for name, other in candidates.items():
        if other.numel() != value.numel():
            continue
        if torch.equal(value.reshape(-1), other.reshape(-1)):
            return name, False
        if other.dim() == 2 and value.shape == other.t().shape and torch.equal(value, other.t()):
            return name, True
    return None


@pytest.mark.parametrize(("name", "exporter"), MATRIX)
def test_an_export_computes_what_the_module_computes(name, exporter, exported, clips) -> None:
    net, target = exported(name, exporter)
    torch.testing.assert_close(target.model(clips), net(clips.transpose(1, 2)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(target.model(clips[:1]), net(clips[:1].transpose(1, 2)), rtol=1e-4, atol=1e-5)
    assert target.fidelity.parity_max_error is not None
    assert target.fidelity.parity_max_error < 1e-5
    assert target.fidelity.gradient_check is not None
    assert target.fidelity.gradient_check < 1e-6
    assert target.fidelity.double_backward
    assert target.fidelity.batch == "unfrozen"
    assert target.classes == 5


@pytest.mark.parametrize(("name", "exporter"), MATRIX)
def test_every_parameter_of_the_file_has_the_gradient_of_the_original(name, exporter, exported, clips) -> None:
    net, target = exported(name, exporter)
    theirs = gradients(net, clips.transpose(1, 2))
    originals = dict(net.named_parameters())
    matched = set()
    for parameter, gradient in gradients(target.model, clips).items():
        found = twin(target.parameters[parameter], originals)
        if found is None:
            continue
        original, transposed = found
        expected = theirs[original].t() if transposed else theirs[original]
        if (name, exporter) in FOLDED and original.startswith("body"):
            continue
        torch.testing.assert_close(gradient, expected.reshape(gradient.shape), rtol=1e-3, atol=1e-6)
        matched.add(original)
    faithful = exporter in ("legacy-training", "dynamo-plain")
    if faithful or not (name in RECURRENT or (name, exporter) in FOLDED):
        assert matched == originals.keys()
    elif name in RECURRENT:  # gates are reordered and biases joined; frame and head stay
        assert {"frame.weight", "head.weight"} <= matched


@pytest.mark.parametrize(("name", "exporter"), FOLDED)
def test_a_folded_export_is_recognised_and_has_the_gradients_of_the_fused_module(
    name, exporter, exported, clips
) -> None:
    net, target = exported(name, exporter)
    fused = copy.deepcopy(net)
    for i in (0, 4):
        fused.body[i], fused.body[i + 1] = fuse_conv_bn_eval(fused.body[i], fused.body[i + 1]), nn.Identity()
    fused.requires_grad_(True)
    theirs = gradients(fused, clips.transpose(1, 2))
    ours = gradients(target.model, clips)
    assert sorted(g.numel() for g in ours.values()) == sorted(g.numel() for g in theirs.values())
    for gradient in ours.values():
        alike = [g for g in theirs.values() if g.numel() == gradient.numel()]
        shapes = [g.t() if g.dim() == 2 and g.shape != gradient.shape else g for g in alike]
        assert any(torch.allclose(gradient, g.reshape(gradient.shape), rtol=1e-3, atol=1e-5) for g in shapes)
    fidelity = target.fidelity
    assert fidelity.batchnorm == "folded"
    assert fidelity.upper_bound
    assert any("dynamo=True, optimize=False" in note for note in fidelity.notes)


@pytest.mark.parametrize("exporter", ["dynamo-plain", "legacy-training"])
def test_a_faithful_export_keeps_batch_normalisation_in_both_modes(exporter, exported, clips) -> None:
    net, target = exported("pooled", exporter)
    model = target.model
    assert target.fidelity.batchnorm == "kept"
    assert not target.fidelity.upper_bound
    before = {k: v.clone() for k, v in model.named_buffers()}
    assert len(before) == 4
    reference = copy.deepcopy(net)
    for module in reference.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.train()
    model.batchnorm("train")
    try:
        torch.testing.assert_close(model(clips), reference(clips.transpose(1, 2)), rtol=1e-4, atol=1e-5)
    finally:
        model.batchnorm("eval")
    torch.testing.assert_close(model(clips), net(clips.transpose(1, 2)), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(before[k], v) for k, v in model.named_buffers())


@pytest.mark.parametrize("name", ["conv3d-gelu", "vivit-cls", "encoder", "gru", "lstm", "groupnorm"])
def test_second_derivatives_agree_with_the_original(name, exported, clips) -> None:
    net, target = exported(name, "legacy-training")

    def second(model: nn.Module, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        g = torch.autograd.grad(loss_of(model(x)), list(model.parameters()), create_graph=True)
        return torch.autograd.grad(sum(v.square().sum() for v in g), x)[0]

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        theirs = second(net, clips.transpose(1, 2))
    torch.testing.assert_close(second(target.model, clips), theirs.transpose(1, 2), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["conv3d", "vivit-cls", "gru"])
def test_a_dynamic_batch_needs_no_release(name, exported, clips) -> None:
    net, target = exported(name, "legacy", True)
    assert target.fidelity.batch == "dynamic"
    three = torch.cat([clips, clips[:1]])
    torch.testing.assert_close(target.model(three), net(three.transpose(1, 2)), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_r3d_18_keeps_every_parameter(exported) -> None:
    net, target = exported("r3d_18", "dynamo-plain")
    assert set(target.parameters) == set(dict(net.named_parameters()))
    x = torch.rand(2, 8, 3, 32, 32)
    torch.testing.assert_close(target.model(x), net(x.transpose(1, 2)), rtol=1e-4, atol=1e-4)
    assert target.fidelity.double_backward
    assert target.fidelity.batchnorm == "kept"
    assert len(target.layers) == 41


def test_functional_calls_take_the_names_of_the_file(exported, clips) -> None:
    _, target = exported("vivit-cls", "legacy-training")
    moved = {name: value.detach() + 0.1 for name, value in target.parameters.items()}
    shifted = torch.func.functional_call(target.model, moved, (clips,))
    other = copy.deepcopy(target.model.network)
    with torch.no_grad():
        for value in other.parameters():
            value.add_(0.1)
    torch.testing.assert_close(shifted, VideoModel(other, target.input)(clips))
    assert not torch.allclose(shifted, target.model(clips))


def test_a_plan_holds_no_shape_arithmetic(exported) -> None:
    _, target = exported("vivit-cls", "dynamo-plain")
    network = target.model.network
    assert isinstance(network, OnnxModule)
    plan = next(iter(network._plans.values()))
    assert len(plan.steps) < 0.7 * len(network.graph.nodes)


def test_loading_is_repeatable(exported, tmp_path) -> None:
    from zoo import build, export

    path = export(build("conv3d"), tmp_path / "m.onnx", "legacy")
    first, again = load(str(path)), load(str(path))
    assert first.sha256 == again.sha256
    assert first.fidelity.gradient_check == again.fidelity.gradient_check
    assert first.name == "m"
    assert first.format == "onnx"
    assert first.operators["Conv"] == 3


@pytest.mark.parametrize("name", NETS)
def test_everything_follows_the_model_to_another_device(name, exported, clips) -> None:
    """The meta device computes shapes only, but like an accelerator it refuses operands that stayed on the CPU."""
    _, target = exported(name, "legacy-training")
    for size in (1, 2):
        moved = VideoModel(copy.deepcopy(target.model.network), target.input).to(torch.device("meta"))
        moved.batchnorm("train")
        assert moved(clips[:size].to("meta")).shape == (size, 5)
