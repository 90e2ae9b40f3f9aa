"""Layers and readings, the same whichever way a model comes in."""

import pytest
import torch
from torch import nn
from zoo import NETS, build, export

from auditor.model import load
from auditor.model.forward_pass import observe
from auditor.model.layers import find_layers
from auditor.model.video import VideoModel
from auditor.records import InputSpec, Layer

SPEC = InputSpec(frames=8, channels=3, height=16, width=16, layout="NCTHW")


def layers_of(net: nn.Module) -> tuple[Layer, ...]:
    model = VideoModel(net, SPEC)
    return find_layers(net, dict(net.named_parameters()), observe(model, torch.rand(1, 8, 3, 16, 16)).readings)


def test_a_video_transformer() -> None:
    layers = layers_of(build("vivit-cls"))
    assert [(layer.name, layer.kind, layer.rows) for layer in layers[:8]] == [
        ("patch", "conv3d", None),
        ("cls", "embedding", None),
        ("pos", "position-embedding", None),
        ("blocks.0.n1", "norm", None),
        ("blocks.0.attn.qkv", "linear", 17),
        ("blocks.0.attn.proj", "linear", 17),
        ("blocks.0.n2", "norm", None),
        ("blocks.0.mlp.0", "linear", 17),
    ]
    assert (layers[-1].name, layers[-1].kind, layers[-1].rows) == ("head", "linear", 1)
    assert layers[0].parameters == ("patch.weight", "patch.bias")
    assert layers[0].input_shape == (1, 3, 8, 16, 16)
    assert layers[0].output_shape == (1, 32, 4, 2, 2)
    assert layers[-1].input_shape == (1, 32)
    assert layers[-1].output_shape == (1, 5)


def test_only_what_no_other_weights_stand_before_may_read_pixels() -> None:
    layers = layers_of(build("vivit-cls"))
    assert [layer.name for layer in layers if not layer.behind_weights] == ["patch"]

    class TwoWays(nn.Module):
        """Two layers read the clip, one behind a norm of pixels and a normalisation of colours; a third reads both."""

        def __init__(self) -> None:
            super().__init__()
            self.colours, self.norm = nn.Conv3d(3, 3, 1), nn.LayerNorm(16)
            self.wide, self.flat, self.head = nn.Conv3d(3, 8, 4, 4), nn.Linear(16 * 16, 9), nn.Linear(8, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            rows = self.flat(self.norm(self.colours(x)).flatten(3).mean(2))
            return self.head(self.wide(x).mean((2, 3, 4))) + rows.mean((1, 2))[:, None]

    behind = {layer.name: layer.behind_weights for layer in layers_of(TwoWays())}
    assert behind == {"colours": False, "norm": False, "wide": False, "flat": False, "head": True}


def test_an_encoder_layer_of_torch() -> None:
    layers = {layer.name: layer for layer in layers_of(build("encoder"))}
    assert layers["embed"].rows == 8
    attention = layers["layer.self_attn"]
    assert attention.parameters == ("layer.self_attn.in_proj_weight", "layer.self_attn.in_proj_bias")
    assert (attention.kind, attention.rows) == ("linear", 8)
    assert layers["layer.norm1"].kind == "norm"


@pytest.mark.parametrize("name", ["gru", "gru-both", "lstm"])
def test_a_recurrent_layer_is_one(name) -> None:
    layers = layers_of(build(name))
    recurrent = [layer for layer in layers if layer.kind == "recurrent"]
    assert len(recurrent) == (2 if name == "gru-both" else 1)
    assert sum(len(layer.parameters) for layer in recurrent) == 4 * len(recurrent)
    assert layers[0].kind == "conv2d"


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("exporter", ["legacy", "legacy-training"])
def test_every_parameter_is_in_exactly_one_layer(name, exporter, exported) -> None:
    net, target = exported(name, exporter)
    for layers, model in ((layers_of(net), net), (target.layers, target.model)):
        placed = [parameter for layer in layers for parameter in layer.parameters]
        sizes = {key: value.numel() for key, value in model.named_parameters()}
        assert sorted(placed) == sorted(sizes)
        assert sum(layer.elements for layer in layers) == sum(sizes.values())
        assert [layer.index for layer in layers] == list(range(len(layers)))
        assert len({layer.name for layer in layers}) == len(layers)


@pytest.mark.parametrize("name", [name for name in NETS if name != "gru-both"])
def test_an_export_has_the_layers_of_its_module(name, exported) -> None:
    net, target = exported(name, "legacy-training")
    ours = [(layer.name, layer.kind, layer.elements, layer.rows) for layer in target.layers]
    theirs = [(layer.name, layer.kind, layer.elements, layer.rows) for layer in layers_of(net)]
    assert ours == theirs


@pytest.mark.parametrize("name", ["vivit-cls", "encoder", "gru"])
def test_invented_names_give_way_to_scopes(name, exported) -> None:
    net, target = exported(name, "legacy")
    assert [layer.name for layer in target.layers] == [layer.name for layer in layers_of(net)]
    assert any(p.startswith("onnx::") for p in target.parameters)


def test_a_parameter_that_nothing_reads_is_listed_last() -> None:
    net = build("conv3d")
    net.register_parameter("spare", nn.Parameter(torch.ones(3)))
    last = layers_of(net)[-1]
    assert (last.name, last.kind, last.parameters, last.input_shape) == ("spare", "other", ("spare",), ())


@pytest.mark.parametrize("source", ["module", "legacy", "legacy-training"])
def test_readings_are_differentiable_in_the_clips(source, exported, clips) -> None:
    net, target = exported("vivit-cls", "legacy" if source == "module" else source)
    model = VideoModel(net, SPEC) if source == "module" else target.model
    clips = clips.clone().requires_grad_()
    seen, patches = model.inputs_of("patch.weight", clips)
    torch.testing.assert_close(seen.transpose(1, 2), clips)
    torch.testing.assert_close(patches, net.patch(clips.transpose(1, 2)))
    assert torch.autograd.grad(patches.square().sum(), clips)[0].abs().sum() > 0
    tokens, embedded = model.inputs_of("pos", clips)
    torch.testing.assert_close(embedded, tokens + net.pos)
    rows, _ = model.inputs_of("blocks.0.n1.weight", clips)
    torch.testing.assert_close(rows, embedded)
    head = next(layer for layer in target.layers if layer.name == "head") if source != "module" else None
    name = head.parameters[0] if head else "head.weight"
    features, logits = model.inputs_of(name, clips)
    assert features.shape == (2, 32)
    torch.testing.assert_close(logits, model(clips))
    (gradient,) = torch.autograd.grad(features.sum(), clips)
    assert gradient.abs().sum() > 0


def test_readings_that_are_not_single() -> None:
    model = VideoModel(build("gru"), SPEC)
    with pytest.raises(LookupError, match="no parameter"):
        model.inputs_of("nothing", torch.rand(1, 8, 3, 16, 16))

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3 * 8 * 256, 3 * 8 * 256, bias=False)

        def forward(self, x):
            return self.fc(self.fc(x.flatten(1)))

    with pytest.raises(LookupError, match="2 operations"):
        VideoModel(Twice(), SPEC).inputs_of("fc.weight", torch.rand(1, 8, 3, 16, 16))


class Biased(nn.Module):
    """Attention over frames with a table of relative position biases, as Swin has it."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(768, 24)
        self.table = nn.Parameter(torch.randn(15, 2))
        self.head = nn.Linear(8, 5)
        steps = torch.arange(8)
        self.register_buffer("places", (steps[:, None] - steps[None, :] + 7).reshape(-1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b = x.shape[0]
        q, k, v = self.qkv(x.transpose(1, 2).flatten(2)).reshape(b, 8, 3, 2, 4).permute(2, 0, 3, 1, 4)
        bias = self.table[self.places].view(8, 8, 2).permute(2, 0, 1)
        y = torch.softmax(q @ k.transpose(-1, -2) / 2 + bias, -1) @ v
        return self.head(y.transpose(1, 2).reshape(b, 8, 8).mean(1))


@pytest.mark.parametrize("exporter", [None, "legacy-training", "dynamo-plain"])
def test_a_bias_on_attention_scores_is_no_position_embedding(exporter, tmp_path, clips) -> None:
    torch.manual_seed(0)
    net = Biased().eval()
    if exporter is None:
        layers = {layer.name: layer for layer in layers_of(net)}
    else:
        target = load(str(export(net, tmp_path / "m.onnx", exporter)))
        layers = {layer.name: layer for layer in target.layers}
        names = list(target.parameters)
        ours = torch.autograd.grad(target.model(clips).square().sum(), list(target.parameters.values()))
        theirs = torch.autograd.grad(net(clips.transpose(1, 2)).square().sum(), list(net.parameters()))
        for name, expected in zip(dict(net.named_parameters()), theirs, strict=True):
            torch.testing.assert_close(ours[names.index(name)], expected, rtol=1e-3, atol=1e-5)
    assert layers["table"].kind == "other"
    assert layers["qkv"].rows == 8


def test_a_weight_that_is_joined_with_itself_over_and_over_is_named_once() -> None:
    """Swin's windows scatter a table into itself 72 times at export: names that doubled each time never ended."""

    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Parameter(torch.rand(4)), nn.Linear(4, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            table = self.table
            for _ in range(60):
                table = torch.cat([table, table])[:4]
            return self.head(x.mean((1, 2, 3, 4))[:, None] * table)

    assert [layer.name for layer in layers_of(Folded())] == ["table", "head"]
