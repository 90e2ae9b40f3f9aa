"""What the fidelity record says: how BatchNorm was recognised, parity by batch size, the line that exports again."""

import pytest
import torch
from torch import nn
from zoo import EXPORTERS, build, export, randomised

from auditor.model import load
from auditor.model.checks.derivatives import gradient_error
from auditor.model.onnx.batchnorm import batchnorm_state
from auditor.model.onnx.graph import read_graph
from auditor.model.reading_options import LoadOptions
from auditor.model.sandbox.onnx_file import read_onnx
from auditor.model.video import VideoModel


class Biased(nn.Module):
    """A convolution that has a bias of its own before its BatchNorm: folding leaves every name as it was."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv3d(3, 6, 3, padding=1), nn.BatchNorm3d(6), nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3, 4)))


class BeforeConv(nn.Module):
    """A BatchNorm that comes first: nothing can take it in."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv, self.head = nn.BatchNorm3d(3), nn.Conv3d(3, 6, 3, padding=1), nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.conv(self.norm(x))).mean((2, 3, 4)))


class Keyed(nn.Module):
    """Attention over frames: softmax cancels the bias of the keys, so its gradient is rounding alone."""

    def __init__(self) -> None:
        super().__init__()
        self.key, self.head = nn.Linear(48, 1), nn.Linear(48, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        frames = x.mean(-1).flatten(2).transpose(1, 2).reshape(len(x), 8, 48)
        return self.head((frames * torch.softmax(self.key(frames), 1)).sum(1))


def test_a_parameter_without_influence_is_no_wrong_gradient() -> None:
    model = VideoModel(randomised(Keyed()), LoadOptions().spec((8, 3, 16, 16), "", layout=None))
    clip = torch.rand(1, 8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    gradient = torch.autograd.grad(model(clip).sum(), model.network.key.bias)[0]
    assert abs(float(gradient)) < 1e-5
    for seed in range(8):  # every pair of the four parameters is met
        error = gradient_error(model, clip, seed)
        assert error is not None
        assert error < 1e-6


def state(path):
    model = read_onnx(path).model
    return batchnorm_state(read_graph(model), model.producer_name)


# The exporter of TorchDynamo takes a second each; the others are quick.
WITHOUT = [
    pytest.param(n, e, marks=pytest.mark.slow if e.startswith("dynamo") and n not in ("conv3d", "gru") else ())
    for n in ("conv3d", "groupnorm", "encoder", "gru", "squeeze-excite")
    for e in EXPORTERS
]


@pytest.mark.parametrize(("name", "exporter"), WITHOUT)
def test_a_net_without_batchnorm_is_never_called_folded(name, exporter, tmp_path) -> None:
    found = state(export(build(name), tmp_path / "m.onnx", exporter))
    assert found.word == "none"
    assert found.how


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("net", [Biased, BeforeConv])
def test_what_became_of_batchnorm_is_told_with_the_evidence(net, exporter, tmp_path) -> None:
    found = state(export(randomised(net()), tmp_path / "m.onnx", exporter))
    folded = net is Biased and exporter in ("dynamo", "legacy")
    assert found.word == ("folded" if folded else "kept")
    evidence = {"dynamo": "FuseBatchNormIntoConv on 1 node", "legacy": "onnx::Conv_"}
    assert (evidence[exporter] if folded else "1 BatchNormalization node") in found.how


def test_without_names_or_notes_folding_is_only_suspected(tmp_path) -> None:
    import onnx

    path = export(build("conv3d"), tmp_path / "m.onnx", "legacy")
    proto = onnx.load(str(path))
    proto.producer_name = "another program"
    onnx.save(proto, str(path))
    found = state(path)
    assert found.word == "maybe folded"
    assert "3 convolutions" in found.how
    fidelity = load(str(path)).fidelity
    assert not fidelity.upper_bound
    assert fidelity.reexport
    assert any("may have been merged" in note for note in fidelity.notes)


def test_a_name_that_says_it_was_fused_is_evidence() -> None:
    from auditor.model.onnx.graph import Graph, Node

    node = Node("Conv", ("x", "w", "conv_bias_fused_bn"), ("y",))
    found = batchnorm_state(Graph((node,), {}, ("x",), ("y",)), "tf2onnx")
    assert (found.word, "conv_bias_fused_bn" in found.how) == ("folded", True)


def test_weights_computed_at_export_are_no_sign_of_folding(tmp_path) -> None:
    net = build("conv3d")
    nn.utils.parametrizations.weight_norm(net.stem)
    assert state(export(net, tmp_path / "m.onnx", "legacy")).word == "none"


def test_the_export_line_writes_a_file_that_keeps_everything(tmp_path, monkeypatch) -> None:
    model = build("pooled")
    folded = load(str(export(model, tmp_path / "folded.onnx", "dynamo"))).fidelity
    assert folded.upper_bound
    assert set(folded.parity) == {1, 2}
    assert max(folded.parity.values()) == folded.parity_max_error
    assert folded.reexport in " ".join(folded.notes)
    monkeypatch.chdir(tmp_path)
    import contextlib
    import io
    import warnings

    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        exec(folded.reexport, {"torch": torch, "model": model})
    again = load("model.onnx")
    assert (again.fidelity.batchnorm, again.fidelity.batch, again.fidelity.reexport) == ("kept", "dynamic", "")
    assert set(again.parameters) == set(dict(model.named_parameters()))


def test_the_mode_that_a_file_was_written_in_is_told(exported) -> None:
    assert exported("pooled", "legacy-training")[1].fidelity.semantics == "train"
    _, plain = exported("pooled", "legacy")
    assert plain.fidelity.semantics == "eval"
    assert plain.fidelity.origin.startswith("ONNX, opset ")
