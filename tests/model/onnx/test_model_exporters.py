"""Files that PyTorch's current exporter did not write: outputs and gradients against ONNX Runtime alone.

How the files of `files/` were made: `conv3d_tf2onnx`, `frames_gru_tf2onnx` by make_tensorflow.py with TensorFlow
2.21.0, Keras 3.15.1, tf2onnx 1.17.0; `slowfast_onnxsim` (exported by legacy-training, opset 17) and
`gru_onnxslim` (gru-pooled by legacy, opset 17) by make_simplified.py with onnxsim 0.8.1 and onnxslim 0.1.98 from
PyTorch 2.15.0.
"""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import witness
from onnx import TensorProto, compose, helper, numpy_helper, version_converter
from zoo import build, export, shape_of

from auditor.model import VideoModel, load
from auditor.records import Target

FILES = Path(__file__).parents[1] / "files"
NAMES = ("conv3d_tf2onnx", "frames_gru_tf2onnx", "slowfast_onnxsim", "gru_onnxslim")


def check(path: Path, target: Target, fraction: float = 0.02) -> None:
    """Compare outputs, and the slope along every parameter's gradient, with ONNX Runtime."""
    generator = torch.Generator().manual_seed(5)
    clips = torch.rand(2, *target.input.clip_shape, generator=generator)
    model = target.model
    assert isinstance(model, VideoModel)
    inputs = model.prepare(clips)
    logits = model(clips)
    assert witness.relative(logits, witness.runtime_outputs(str(path), inputs)) < 1e-4
    weights = torch.randn(1, logits.shape[1], generator=generator)
    parameters = target.parameters
    gradients = torch.autograd.grad((model(clips[:1]) * weights).sum(), list(parameters.values()))
    initializers = {tensor.name for tensor in onnx.load(path).graph.initializer}
    assert parameters.keys() <= initializers
    slopes = {}
    for (name, value), gradient in zip(parameters.items(), gradients, strict=True):
        norm = float(gradient.norm())
        step = 3e-3 * max(float(value.detach().norm()), 0.1)
        found = witness.slope(
            str(path), inputs[:1].numpy(), name, (gradient / max(norm, 1e-12)).numpy().astype(np.float64),
            weights.numpy().astype(np.float64), step,
        )  # fmt: skip
        slopes[name] = (found, norm)
    largest = max(norm for _, norm in slopes.values())
    for name, (found, norm) in slopes.items():
        assert abs(found - norm) < fraction * max(norm, 1e-2 * largest), name
    second = witness.second_derivative(model, clips)
    assert bool(torch.isfinite(second).all())
    assert float(second.abs().max()) > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_another_exporter(name) -> None:
    path = FILES / f"{name}.onnx"
    assert path.stat().st_size < 200_000
    target = load(str(path))
    check(path, target)
    assert target.fidelity.double_backward


@pytest.mark.parametrize(("name", "count"), [("conv3d_tf2onnx", 6), ("frames_gru_tf2onnx", 8)])
def test_a_tensorflow_file_is_read_with_colour_last(name, count) -> None:
    target = load(str(FILES / f"{name}.onnx"))
    assert target.input.layout == "NTHWC"
    assert target.input.clip_shape == (4, 3, 16, 16)
    assert len(target.parameters) == count
    assert target.fidelity.batch == "dynamic"
    assert {"conv3d_tf2onnx": "conv3d", "frames_gru_tf2onnx": "conv2d"}[name] == target.layers[0].kind
    assert target.layers[-1].kind == "linear"


def test_simplifying_keeps_batch_normalisation_in_a_training_export() -> None:
    target = load(str(FILES / "slowfast_onnxsim.onnx"))
    assert target.fidelity.batchnorm == "kept"
    assert set(target.parameters) == set(dict(build("slowfast").named_parameters()))


@pytest.mark.parametrize("name", ["pooled", "lstm-deep", "non-local", "relative-bias"])
def test_an_export_in_the_style_of_pytorch_1(name, tmp_path) -> None:
    net = build(name)
    path = export(net, tmp_path / "m.onnx", "legacy", shape_of(net), opset=11)
    assert onnx.load(path).opset_import[0].version == 11
    check(path, load(str(path)))


def test_a_file_whose_opset_was_converted(tmp_path) -> None:
    net = build("i3d")
    before = onnx.load(export(net, tmp_path / "a.onnx", "legacy", shape_of(net), opset=13))
    path = tmp_path / "b.onnx"
    onnx.save(version_converter.convert_version(before, 21), path)
    target = load(str(path))
    check(path, target)
    x = torch.rand(2, *shape_of(net))
    assert witness.relative(target.model(x.transpose(1, 2)), net(x)) < 1e-4


def test_a_file_with_preprocessing_composed_before_it(tmp_path) -> None:
    net = build("non-local")
    model = onnx.load(export(net, tmp_path / "a.onnx", "legacy-training", shape_of(net), opset=17))
    entry = model.graph.input[0]
    mean, std = np.float32([0.4, 0.45, 0.5]).reshape(1, 3, 1, 1, 1), np.float32([0.2, 0.25, 0.3]).reshape(1, 3, 1, 1, 1)
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, *shape_of(net)])
    ready = helper.make_tensor_value_info("ready", TensorProto.FLOAT, [1, *shape_of(net)])
    nodes = [
        helper.make_node("Sub", ["pixels", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["ready"]),
    ]
    constants = [numpy_helper.from_array(mean, "mean"), numpy_helper.from_array(std, "std")]
    first = helper.make_model(
        helper.make_graph(nodes, "preprocessing", [pixels], [ready], constants),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=model.ir_version,
    )  # fmt: skip
    path = tmp_path / "b.onnx"
    onnx.save(compose.merge_models(first, model, io_map=[("ready", entry.name)]), path)
    target = load(str(path))
    check(path, target)
    assert set(target.parameters) == set(dict(net.named_parameters()))
    x = torch.rand(2, *shape_of(net))
    expected = net((x - torch.from_numpy(mean)) / torch.from_numpy(std))
    assert witness.relative(target.model(x.transpose(1, 2)), expected) < 1e-4
