"""Every kind of video net at every exporter: outputs as ONNX Runtime's, gradients as the original module's.

The default run takes nearly every net at the exporter that keeps all parameters, and some of each kind at the others;
all else is slow.
"""

from pathlib import Path

import pytest
import torch
import witness
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.onnx.errors import UnsupportedOperatorError
from zoo import FAMILIES, LARGE, NETS, build, export, shape_of

from auditor.model import VideoModel, load
from auditor.records import Target

MODES = (("dynamo", 20), ("dynamo-plain", 23), ("legacy", 17), ("legacy-training", 17))
# Exports by dynamo take seconds each, so the default run has those that no other exporter stands for.
QUICK = {
    "dynamo": ("slowfast", "relative-bias"),
    "dynamo-plain": ("non-local", "relative-bias", "shared"),
    "legacy": ("i3d", "tsm", "x3d", "non-local", "gru-deep", "encoder-deep", "mvit-narrow", "queries", "shared"),
    "legacy-training": tuple(name for name in FAMILIES if name not in ("swin-narrow", "mobilenet-frames")),
}
MATRIX = [
    pytest.param(
        name,
        exporter,
        opset,
        marks=[] if name in QUICK[exporter] else [pytest.mark.slow],
        id=f"{name}-{exporter}-{opset}",
    )
    for name in (*FAMILIES, *LARGE)
    for exporter, opset in MODES
    if name != "tied" or exporter.startswith("legacy")  # torch 2.15 refuses to export it by dynamo
]
OTHER_OPSETS = [("dynamo-plain", opset) for opset in (18, 19, 21, 22, 24, 25)] + [
    ("legacy", opset) for opset in (11, 12, 13, 14, 15, 16, 18, 19, 20)
]
FAITHFUL = ("dynamo-plain", "legacy-training")
# The first step of each layer is computed at export, so its share is missing from the recurrent weights' gradients.
PARTLY_COMPUTED = {("rnn-deep", "dynamo")}
# ONNX Runtime refuses these files: a branch of an If that is never taken has no valid type, or two values share a name.
NOT_RUN = {("mvit-narrow", "legacy"), ("mvit-narrow", "legacy-training"), ("relative-bias", "dynamo-plain"),
           ("mvit_v1_b", "legacy"), ("mvit_v1_b", "legacy-training")}  # fmt: skip


def check(net: nn.Module, target: Target, path: Path, name: str, exporter: str) -> None:
    """Compare a loaded export with ONNX Runtime and with the module that was exported."""
    x = torch.rand(3, *shape_of(net), generator=torch.Generator().manual_seed(3))
    clips = x.transpose(1, 2).contiguous()
    ours = target.model(clips)
    if (name, exporter) not in NOT_RUN:
        assert witness.relative(ours, witness.runtime_outputs(str(path), x)) < 1e-4
    with sdpa_kernel(SDPBackend.MATH):
        for size in (1, 2, 3):
            assert witness.relative(target.model(clips[:size]), net(x[:size])) < 1e-4, f"batch of {size}"
        compare_gradients(net, target, x, exporter, exact=(name, exporter) not in PARTLY_COMPUTED)
        second = witness.second_derivative(target.model, clips[:2])
        assert bool(torch.isfinite(second).all())
        assert float(second.abs().max()) > 0
        assert target.fidelity.double_backward
        if exporter in FAITHFUL and witness.normalised(net):
            assert target.fidelity.batchnorm == "kept"
            assert isinstance(target.model, VideoModel)
            if target.fidelity.batch == "unfrozen":
                target.model.batchnorm("train")
                twin = witness.with_batch_statistics(net)
                assert witness.relative(target.model(clips), twin(x)) < 1e-4
                # Batch statistics of three clips multiply what rounding leaves: 2% of a weight's gradient for s3d.
                target.model.double()
                compare_gradients(twin.double(), target, x.double(), exporter, exact=True)
                target.model.float()
                target.model.batchnorm("eval")


def compare_gradients(net: nn.Module, target: Target, x: torch.Tensor, exporter: str, exact: bool) -> None:
    theirs = witness.gradients(net, x)
    largest = max(float(value.abs().max()) for value in theirs.values())
    ours = witness.gradients(target.model, x.transpose(1, 2).contiguous())
    found = witness.matched(target.parameters, net)
    for parameter, (names, function) in found.items() if exact else ():
        expected = function(*(theirs[name] for name in names)).reshape(ours[parameter].shape)
        error = float((ours[parameter] - expected).abs().max()) / max(float(expected.abs().max()), 1e-3 * largest)
        assert error < 1e-3, f"{parameter} is {names}"
    kept = {name for names, _ in found.values() for name in names}
    if exporter in FAITHFUL:
        assert kept == theirs.keys()
        assert found.keys() == target.parameters.keys()
        assert not target.fidelity.upper_bound
        return
    told = target.fidelity.batchnorm == "folded" or any("in advance" in note for note in target.fidelity.notes)
    assert told or (kept == theirs.keys() and found.keys() == target.parameters.keys())


@pytest.mark.parametrize(("name", "exporter", "opset"), MATRIX)
def test_an_export_of_every_family(name, exporter, opset, tmp_path) -> None:
    net = build(name)
    path = export(net, tmp_path / "m.onnx", exporter, shape_of(net), opset=opset)
    check(net, load(str(path)), path, name, exporter)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(("exporter", "opset"), MODES)
def test_an_export_of_the_small_nets(name, exporter, opset, tmp_path) -> None:
    net = build(name)
    path = export(net, tmp_path / "m.onnx", exporter, shape_of(net), opset=opset)
    check(net, load(str(path)), path, name, exporter)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conv3d", "pooled", "groupnorm", "vivit-cls", "gru-deep", "i3d", "tsm"])
@pytest.mark.parametrize(("exporter", "opset"), OTHER_OPSETS)
def test_an_export_at_other_opsets(name, exporter, opset, tmp_path) -> None:
    net = build(name)
    try:
        path = export(net, tmp_path / "m.onnx", exporter, shape_of(net), opset=opset)
    except UnsupportedOperatorError as error:
        pytest.skip(str(error).split(".")[0])
    check(net, load(str(path)), path, name, exporter)


@pytest.mark.parametrize("exporter", ["legacy-training", "dynamo"])
def test_a_fixed_table_of_positions_is_not_trained(exporter, tmp_path) -> None:
    net = build("encoder-deep")
    target = load(str(export(net, tmp_path / "m.onnx", exporter)))
    assert "table" not in target.parameters
    told = any("sines and cosines of positions: 'table'" in note for note in target.fidelity.notes)
    assert told == (exporter == "legacy-training")  # dynamo records that it is a buffer, so there is no doubt


def test_a_value_computed_at_export_is_told(tmp_path) -> None:
    target = load(str(export(build("relative-bias"), tmp_path / "m.onnx", "legacy")))
    assert "table" not in target.parameters
    assert any("The exporter computed 'onnx::Add" in note for note in target.fidelity.notes)
