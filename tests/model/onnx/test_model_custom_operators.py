"""Operators that a user adds, and attributes and operator sets that nobody knows."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from auditor.errors import NotAuditable, UsageError
from auditor.model import load
from auditor.model.onnx.operators import OPERATORS, operator
from auditor.model.onnx.support import check_supported

EXAMPLE = Path(__file__).parents[3] / "examples" / "onnx_operators.py"
HEAD = "from auditor.model.onnx.operators import operator\n@operator('GatedConv', domain='com.example')\n"
SHAPE = [1, 3, 4, 8, 8]


def weight(name: str, *shape: int) -> TensorProto:
    value = 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(len(name)))
    return numpy_helper.from_array(value.numpy(), name)


def model(
    *middle: onnx.NodeProto, domain: str = "com.example", opset: int = 20, **weights: TensorProto
) -> onnx.ModelProto:
    """Return clip -> the given nodes -> pooled logits; they read `clip` and write `features` of four channels."""
    nodes = [
        *middle,
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "head.weight"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("clip", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])],
        [weight("head.weight", 3, 4), *weights.values()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(domain, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


@pytest.fixture
def gated(tmp_path: Path) -> Path:
    count = numpy_helper.from_array(np.array([1], dtype=np.int64), "count")
    nodes = [
        helper.make_node("GatedConv", ["clip", "gate.weight", "gate.bias"], ["gated"], domain="com.example", padding=1),
        helper.make_node("TemporalShift", ["gated", "count"], ["features"], domain="com.example", name="shift"),
    ]
    path = tmp_path / "gated.onnx"
    onnx.save(model(*nodes, w=weight("gate.weight", 8, 3, 3, 3, 3), b=weight("gate.bias", 8), c=count), path)
    return path


def test_operators_of_a_user(gated: Path) -> None:
    target = load(str(gated), onnx_ops=(EXAMPLE,))
    network = target.model.network
    assert {name for name, _ in network.named_parameters()} == {"gate.weight", "gate.bias", "head.weight"}
    clip = torch.rand(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    values = {name: value.detach() for name, value in network.named_parameters()}
    value, gate = torch.conv3d(clip, values["gate.weight"], values["gate.bias"], padding=1).chunk(2, 1)
    y = value * torch.sigmoid(gate)
    shifted = y.clone()
    shifted[:, 0, 1:], shifted[:, 0, 0] = y[:, 0, :-1], 0
    torch.testing.assert_close(network(clip), shifted.mean((2, 3, 4)) @ values["head.weight"].t())
    fidelity = target.fidelity
    assert fidelity.double_backward
    assert fidelity.gradient_check is not None
    assert fidelity.gradient_check < 1e-4
    assert fidelity.parity_max_error is None
    told = " ".join(fidelity.notes)
    assert "Operators taken from onnx_operators.py" in told
    assert "com.example.GatedConv x1; com.example.TemporalShift x1" in told
    assert any("GatedConv" in note for note in (*fidelity.missing, *fidelity.notes) if "ONNX Runtime" in note)


def test_they_do_not_outlive_the_load(gated: Path) -> None:
    before = dict(OPERATORS)
    load(str(gated), onnx_ops=(EXAMPLE,))
    assert before == OPERATORS
    with pytest.raises(
        NotAuditable, match=r"com\.example\.GatedConv x1 .*com\.example\.TemporalShift x1 \(shift\)"
    ) as e:
        load(str(gated))
    assert "--onnx-ops" in e.value.remedy
    assert "factory" in e.value.remedy


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nowhere_at_all", "ModuleNotFoundError"),
        ("x = 1", "declares no operator"),
        ("from auditor.model.onnx.operators import operator\n@operator('A', weights=(-1,))\ndef a(b): ...",
         "ValueError"),
        (HEAD + "def a(b): 1/0",
         "GatedConv of ops.py raised ZeroDivisionError"),
        (HEAD + "def a(b): return 3",
         "returned int, not the function"),
    ],
)  # fmt: skip
def test_errors_of_their_files_are_one_line(text: str, message: str, gated: Path, tmp_path: Path) -> None:
    file = tmp_path / "ops.py"
    file.write_text(text)
    with pytest.raises((UsageError, NotAuditable), match=message) as error:
        load(str(gated), onnx_ops=(EXAMPLE, file))
    assert "\n" not in str(error.value)


def test_errors_while_they_run_name_the_file(gated: Path, tmp_path: Path) -> None:
    file = tmp_path / "ops.py"
    file.write_text(HEAD + "def a(b):\n    def run(*x):\n        assert False, 'not \\x1b[31mtoday'\n    return run\n")
    with pytest.raises(NotAuditable, match=r"GatedConv of ops\.py raised AssertionError: not .*today") as error:
        load(str(gated), onnx_ops=(EXAMPLE, file))
    assert "\x1b" not in str(error.value)


def test_a_replaced_operator_is_told_and_compared(tmp_path: Path) -> None:
    path, file = tmp_path / "relu.onnx", tmp_path / "ops.py"
    convolution = helper.make_node("Conv", ["clip", "w"], ["y"], kernel_shape=[1, 1, 1])
    onnx.save(model(convolution, helper.make_node("Relu", ["y"], ["features"]), w=weight("w", 4, 3, 1, 1, 1)), path)
    head = "from auditor.model.onnx.operators import operator\n@operator('Relu')\ndef relu(_):\n    return lambda x: "
    file.write_text(head + "x.clamp_min(0)\n")
    target = load(str(path), onnx_ops=(file,))
    assert "Relu x1, in place of the one shipped here" in " ".join(target.fidelity.notes)
    assert target.fidelity.parity_max_error is not None
    file.write_text(head + "x.clamp_min(0.1)\n")
    with pytest.raises(NotAuditable, match="differs from ONNX Runtime"):
        load(str(path), onnx_ops=(file,))


def test_a_declaration_alone_registers_nothing() -> None:
    before = dict(OPERATORS)

    @operator("Relu")
    def relu(attributes):
        return None

    assert before == OPERATORS


def supported(node: onnx.NodeProto, opset: int = 20) -> list[str]:
    from auditor.model.onnx.graph import read_graph

    return check_supported(read_graph(model(node, w=weight("w", 4, 3, 1, 1, 1), opset=opset)))


def test_unknown_attributes_are_refused() -> None:
    node = helper.make_node("Conv", ["clip", "w"], ["features"], name="first")
    assert supported(node) == []
    node.attribute.append(helper.make_attribute("fancy", 3))
    with pytest.raises(NotAuditable, match=r"Conv with attribute fancy x1 \(first\)"):
        supported(node)


def test_unknown_attributes_at_their_default_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from auditor.model.onnx import support

    node = helper.make_node("Conv", ["clip", "w"], ["features"], group=1)
    monkeypatch.setattr(support, "understood", lambda domain, name: frozenset())
    monkeypatch.setattr(support, "OLDEST", 1)
    with pytest.raises(NotAuditable, match=r"Flatten|Gemm"):  # Gemm's transB is not at its default
        supported(node)
    monkeypatch.setattr(
        support, "understood", lambda domain, name: frozenset({"transB", "axis"}) if name != "Conv" else frozenset()
    )
    assert supported(node) == ["Attribute group of Conv has its default, and is not known here otherwise."]
    node.attribute[0].i = 3
    with pytest.raises(NotAuditable, match="Conv with attribute group"):
        supported(node)


def test_newer_operator_sets_work_with_a_note() -> None:
    node = helper.make_node("Conv", ["clip", "w"], ["features"])
    assert supported(node, opset=28) == []
    assert supported(node, opset=29) == [
        "The file declares operator set 29; it was read as set 28, the newest known."
    ]  # fmt: skip
    with pytest.raises(NotAuditable, match="Conv of operator set 6"):
        supported(node, opset=6)


def test_the_command_line_takes_them(
    gated: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from auditor.cli.main import main

    monkeypatch.setattr("sys.argv", ["fl-audit", "inspect", str(gated), "--onnx-ops", str(EXAMPLE), "--json"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert told["operators"]["com.example.GatedConv"] == 1
    assert any("onnx_operators.py" in note for note in told["fidelity"]["notes"])


def test_they_do_not_apply_to_pytorch() -> None:
    with pytest.raises(UsageError, match="ONNX files only"):
        load("torchvision:r3d_18", onnx_ops=(EXAMPLE,))
