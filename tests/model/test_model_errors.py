"""Every way in which a file or an option can be wrong ends in one line that says what to do."""

import contextlib
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from torch import nn
from zoo import build, export

from auditor.errors import AuditError, NotAuditable, UsageError
from auditor.model import load
from auditor.records import Target

CLIP = [1, 3, 4, 8, 8]
RANDOM = np.random.default_rng(0)


def constant(name: str, *shape: int, value: np.ndarray | None = None) -> TensorProto:
    array = RANDOM.normal(size=shape).astype(np.float32) if value is None else value
    return numpy_helper.from_array(array, name)


def model(
    nodes: list[onnx.NodeProto],
    constants: list[TensorProto],
    clip: list[int | str] | None = None,
    output: list[int | str] | None = None,
    opset: int = 17,
) -> onnx.ModelProto:
    """Return a graph from `clip` to `logits`."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("clip", TensorProto.FLOAT, clip or CLIP)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, output)],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def classifier(weight: TensorProto | None = None, **options: object) -> onnx.ModelProto:
    """Return a linear classifier."""
    nodes = [
        helper.make_node("Flatten", ["clip"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["logits"], name="head"),
    ]
    return model(nodes, [weight or constant("w", 768, 4), constant("b", 4)], **options)  # type: ignore[arg-type]


def saved(proto: onnx.ModelProto, tmp_path: Path, name: str = "m.onnx") -> str:
    path = tmp_path / name
    path.write_bytes(proto.SerializeToString())
    return str(path)


def fails(kind: type[AuditError], *words: str, source: str, **options: object) -> str:
    """Load, expect an error of this kind, and check that it is one line with a remedy."""
    with pytest.raises(kind) as caught:
        load(source, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.remedy
    assert type(caught.value) is kind
    for word in words:
        assert word in text
    return text


def test_a_good_classifier_loads(tmp_path) -> None:
    target = load(saved(classifier(), tmp_path))
    assert target.classes == 4
    assert target.input.layout == "NCTHW"
    assert [layer.name for layer in target.layers] == ["w"]


# ----------------------------------------------------------------------------------------------------------- files


def test_a_file_that_does_not_exist() -> None:
    fails(UsageError, "there is no file", "torchvision:NAME", source="nowhere.onnx")


def test_a_folder(tmp_path) -> None:
    fails(UsageError, "is a folder", source=str(tmp_path))


def test_an_empty_file(tmp_path) -> None:
    (tmp_path / "m.onnx").touch()
    fails(NotAuditable, "is empty", source=str(tmp_path / "m.onnx"))


def test_text_that_is_called_onnx(tmp_path) -> None:
    (tmp_path / "m.onnx").write_text("hello world, this is no model\n")
    fails(NotAuditable, "is a text file", source=str(tmp_path / "m.onnx"))


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file(tmp_path, keep) -> None:
    content = classifier().SerializeToString()
    (tmp_path / "m.onnx").write_bytes(content[: int(len(content) * keep)])
    fails(NotAuditable, "truncated or damaged", source=str(tmp_path / "m.onnx"))


def test_random_bytes_never_end_in_a_traceback(tmp_path) -> None:
    content = bytearray(classifier().SerializeToString())
    generator = np.random.default_rng(1)
    for trial in range(60):
        broken = bytearray(content)
        for place in generator.integers(0, 300, 3):
            broken[place] = generator.integers(0, 256)
        path = tmp_path / f"{trial}.onnx"
        path.write_bytes(broken)
        with contextlib.suppress(AuditError):
            load(str(path))


def test_an_onnx_file_under_another_name_is_recognised(tmp_path) -> None:
    assert load(saved(classifier(), tmp_path, "model.bin")).format == "onnx"


def test_pytorch_archives_are_refused(tmp_path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "pickled.pt")
    torch.save({"w": torch.ones(2)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file({"w": torch.ones(2)}, tmp_path / "weights.safetensors")
    for name in ("pickled.pt", "old.pth", "weights.safetensors"):
        fails(NotAuditable, "path/file.py:factory", source=str(tmp_path / name))


# ----------------------------------------------------------------------------------------------------------- graph


def test_all_unsupported_operators_are_listed_at_once(tmp_path) -> None:
    nodes = [
        helper.make_node("Frobnicate", ["clip"], ["a"], name="f1"),
        helper.make_node("Frobnicate", ["a"], ["b"], name="f2"),
        helper.make_node("Foo", ["b"], ["c"], name="x", domain="my.domain"),
        helper.make_node("Flatten", ["c"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
    ]
    text = fails(
        NotAuditable, "Frobnicate x2 (f1, f2)", "my.domain.Foo x1 (x)",
        source=saved(model(nodes, [constant("w", 768, 4)]), tmp_path),
    )  # fmt: skip
    assert "factory" in text
    assert "--onnx-ops" in text


def test_an_operator_without_a_name(tmp_path) -> None:
    proto = classifier()
    proto.graph.node[0].op_type = ""
    fails(NotAuditable, "an operator without a name x1", source=saved(proto, tmp_path))


def test_a_graph_without_parameters(tmp_path) -> None:
    nodes = [helper.make_node("ReduceMean", ["clip"], ["logits"], axes=[2, 3, 4], keepdims=0)]
    fails(NotAuditable, "no trainable float parameter", source=saved(model(nodes, []), tmp_path))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite(tmp_path, bad) -> None:
    weight = RANDOM.normal(size=(768, 4)).astype(np.float32)
    weight[3, 2] = bad
    fails(NotAuditable, "'w' holds NaN", source=saved(classifier(constant("w", value=weight)), tmp_path))


def test_outputs_that_are_no_logits(tmp_path) -> None:
    conv = helper.make_node("Conv", ["clip", "w"], ["logits"])
    fails(
        NotAuditable, "not (1, classes)", source=saved(model([conv], [constant("w", 4, 3, 1, 1, 1)]), tmp_path)
    )  # fmt: skip


def test_the_output_that_is_read_of_several_is_told(tmp_path) -> None:
    two = classifier()
    two.graph.output.append(helper.make_tensor_value_info("flat", TensorProto.FLOAT, None))
    assert any("2 outputs the loss reads 'logits'" in note for note in load(saved(two, tmp_path)).fidelity.notes)


def test_two_inputs(tmp_path) -> None:
    two = classifier()
    two.graph.input.append(helper.make_tensor_value_info("flow", TensorProto.FLOAT, CLIP))
    fails(NotAuditable, "2 inputs: clip (1, 3, 4, 8, 8), flow", source=saved(two, tmp_path))


def test_a_value_from_nowhere(tmp_path) -> None:
    broken = classifier()
    broken.graph.node[1].input[0] = "ghost"
    fails(NotAuditable, "'ghost'", source=saved(broken, tmp_path))


def test_quantised_weights(tmp_path) -> None:
    proto = classifier()
    proto.graph.initializer[0].data_type = TensorProto.FLOAT8E4M3FN
    fails(NotAuditable, "FLOAT8E4M3FN", source=saved(proto, tmp_path))


def test_a_shape_that_its_data_do_not_fill(tmp_path) -> None:
    proto = classifier()
    proto.graph.initializer[0].dims[0] = 7
    fails(NotAuditable, "'w' is damaged", source=saved(proto, tmp_path))


def test_a_condition_that_depends_on_the_clip(tmp_path) -> None:
    def branch(name: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node("MatMul", ["flat", "w"], [name])], name, [], [out])

    nodes = [
        helper.make_node("Flatten", ["clip"], ["flat"]),
        helper.make_node("ReduceSum", ["clip"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["yes"]),
        helper.make_node("If", ["yes"], ["logits"], then_branch=branch("p"), else_branch=branch("q"), name="gate"),
    ]
    zero = constant("zero", value=np.array(0, np.float32))
    fails(
        NotAuditable,
        "If 'gate'",
        "depends on the clip",
        source=saved(model(nodes, [constant("w", 768, 4), zero]), tmp_path),
    )


def test_softmax_at_the_end_is_recognised(tmp_path) -> None:
    proto = classifier()
    proto.graph.node[1].output[0] = "raw"
    proto.graph.node.append(helper.make_node("Softmax", ["raw"], ["logits"]))
    assert load(saved(proto, tmp_path)).output.activation == "softmax"


@pytest.mark.parametrize(("kind", "name"), [(TensorProto.FLOAT16, "float16"), (TensorProto.DOUBLE, "float64")])
def test_other_precisions_are_converted_and_noted(tmp_path, kind, name) -> None:
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    proto = classifier(constant("w", value=(RANDOM.normal(size=(768, 4)) / 30).astype(dtype)))
    proto.graph.initializer[1].CopyFrom(constant("b", value=np.zeros(4, dtype)))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = kind
    target = load(saved(proto, tmp_path))
    assert any(f"{name} were converted" in note for note in target.fidelity.notes)
    assert target.fidelity.parity_max_error is not None
    assert all(value.dtype == torch.float32 for value in target.parameters.values())


# ----------------------------------------------------------------------------------------------------------- input


def test_open_dimensions_need_a_shape(tmp_path) -> None:
    proto = classifier(clip=["batch", 3, "frames", 8, 8])
    source = saved(proto, tmp_path)
    fails(UsageError, "frames", "--input-shape", source=source)
    assert load(source, input_shape=(3, 4, 8, 8)).input.frames == 4
    assert load(source, input_shape=(1, 3, 4, 8, 8)).input.frames == 4


def test_a_shape_that_contradicts_the_file(tmp_path) -> None:
    source = saved(classifier(), tmp_path)
    fails(UsageError, "contradicts", "(1, 3, 4, 8, 8)", source=source, input_shape=(3, 5, 8, 8))
    fails(UsageError, "contradicts", source=source, input_shape=(3, 8, 8))
    fails(UsageError, "below 1", source=source, input_shape=(3, 0, 8, 8))


def test_an_axis_order_that_is_not_certain(tmp_path) -> None:
    proto = classifier(constant("w", 3 * 3 * 16 * 16, 4), clip=[1, 3, 3, 16, 16])
    source = saved(proto, tmp_path)
    fails(UsageError, "not certain", "--layout", source=source)
    assert load(source, layout="NTCHW").input.layout == "NTCHW"
    fails(UsageError, "does not fit", source=source, layout="NCHW")
    fails(UsageError, "unknown layout", source=source, layout="TCHW")


def test_frames_in_the_batch(tmp_path) -> None:
    source = saved(classifier(constant("w", 192, 4), clip=[1, 3, 8, 8]), tmp_path)
    assert load(source).input.frames == 1
    assert load(source, input_shape=(1, 3, 8, 8)).input.frames == 1
    target = load(source, input_shape=(5, 3, 8, 8))
    assert (target.input.frames, target.input.layout, target.fidelity.batch) == (5, "NCHW", "unfrozen")
    clips = torch.rand(2, 5, 3, 8, 8)
    single = load(source).model
    by_frame = torch.stack([single(clips[:, t : t + 1]) for t in range(5)]).mean(0)
    torch.testing.assert_close(target.model(clips), by_frame)


def test_normalisation_that_does_not_fit(tmp_path) -> None:
    source = saved(classifier(), tmp_path)
    fails(UsageError, "--mean has 2 values", source=source, mean=(0.5, 0.5))
    fails(UsageError, "not positive", source=source, std=(0.0,))
    fails(UsageError, "is empty", source=source, range=(1.0, 1.0))
    fails(UsageError, "4 classes, not 7", source=source, classes=7)
    fails(UsageError, "--weights", source=source, weights=Path("w.pt"))


# ----------------------------------------------------------------------------------------------------- ONNX Runtime


def test_a_missing_runtime_is_a_note(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    target = load(saved(classifier(), tmp_path))
    assert target.fidelity.parity_max_error is None
    assert any("not compared with ONNX Runtime" in note for note in target.fidelity.missing)


def test_a_difference_from_the_runtime_is_an_error(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("auditor.model.onnx.from_onnx.runtime", lambda proto: lambda x: torch.zeros(x.shape[0], 4))
    fails(NotAuditable, "differs from ONNX Runtime", source=saved(classifier(), tmp_path))


def test_wrong_gradients_are_an_error(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("auditor.model.checks.checked.gradient_error", lambda *_: 0.5)
    fails(NotAuditable, "finite differences by 50%", source=saved(classifier(), tmp_path))


# ----------------------------------------------------------------------------------------------------------- batch


def test_a_batch_that_cannot_be_released_runs_in_parts(tmp_path) -> None:
    """An index that picks clip 0 only: exact at batch 1, wrong at any other."""
    nodes = [
        helper.make_node("Gather", ["clip", "first"], ["one"], axis=0),
        helper.make_node("Flatten", ["one"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["logits"]),
    ]
    first = constant("first", value=np.array([0], np.int64))
    source = saved(model(nodes, [constant("w", 768, 4), constant("b", 4), first]), tmp_path)
    target = load(source)
    assert target.fidelity.batch == "frozen at 1"
    assert any("parts of 1" in note for note in target.fidelity.notes)
    clips = torch.rand(3, 4, 3, 8, 8)
    apart = torch.cat([target.model(clip[None]) for clip in clips])
    torch.testing.assert_close(target.model(clips), apart)
    assert not torch.allclose(apart[0], apart[1])


@pytest.mark.parametrize("size", [2, 4])
def test_a_batch_fixed_above_one(tmp_path, size) -> None:
    nodes = [
        helper.make_node("Reshape", ["clip", "shape"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["logits"]),
    ]
    shape = constant("shape", value=np.array([size, 768], np.int64))
    proto = model(nodes, [constant("w", 768, 4), constant("b", 4), shape], clip=[size, 3, 4, 8, 8])
    target: Target = load(saved(proto, tmp_path))
    assert target.fidelity.batch == "unfrozen"
    assert target.model(torch.rand(3, 4, 3, 8, 8)).shape == (3, 4)


def test_silence(tmp_path, capfd) -> None:
    load(str(export(build("gru"), tmp_path / "m.onnx", "legacy")))
    assert capfd.readouterr() == ("", "")


def test_two_values_of_one_name(tmp_path) -> None:
    proto = classifier()
    proto.graph.initializer.append(constant("flat", 3))
    fails(NotAuditable, "two values", "'flat'", source=saved(proto, tmp_path))


def test_nodes_in_any_order(tmp_path) -> None:
    proto = classifier()
    nodes = list(proto.graph.node)[::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    # ONNX Runtime insists on the order, so the comparison is a note; the gradients are checked all the same.
    fidelity = load(saved(proto, tmp_path)).fidelity
    assert fidelity.gradient_check is not None
    assert fidelity.gradient_check < 1e-6
