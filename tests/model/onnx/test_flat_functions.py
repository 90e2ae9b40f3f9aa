"""Files that round a clip before their first layer: derivatives go through, or the audit says that it is blind."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper

from auditor.model import load
from auditor.records import Target

FRAMES, SIDE, CLASSES = 2, 6, 4
VALUES = 3 * FRAMES * SIDE * SIDE
node = helper.make_node
CONSTANTS = {
    "steps": np.float32(16.0),
    "four": np.uint8(4),
    "mask": np.uint8(0xF0),
    "sixteen": np.int32(16),
    "half": np.float32(0.5),
    "eighth": np.float32(0.125),
    "bytes": np.float32(255.0),
}


def _as(kind: int) -> list[NodeProto]:
    return [node("Mul", ["clip", "bytes"], ["large"]), node("Cast", ["large"], ["whole"], to=kind)]


def _back(name: str) -> list[NodeProto]:
    return [node("Cast", [name], ["float"], to=TensorProto.FLOAT), node("Div", ["float", "bytes"], ["seen"])]


def _rounding(operator: str) -> list[NodeProto]:
    return [
        node("Mul", ["clip", "steps"], ["large"]),
        node(operator, ["large"], ["flat"]),
        node("Div", ["flat", "steps"], ["seen"]),
    ]


SEEN: dict[str, list[NodeProto]] = {
    "Round": _rounding("Round"),
    "Floor": _rounding("Floor"),
    "Ceil": _rounding("Ceil"),
    "bytes": [*_as(TensorProto.UINT8), *_back("whole")],
    "whole numbers": [*_as(TensorProto.INT64), *_back("whole")],
    "division": [*_as(TensorProto.INT32), node("Div", ["whole", "sixteen"], ["few"]), *_back("few")],
    "shift": [
        *_as(TensorProto.UINT8),
        node("BitShift", ["whole", "four"], ["few"], direction="RIGHT"),
        *_back("few"),
    ],
    "mask": [*_as(TensorProto.UINT8), node("BitwiseAnd", ["whole", "mask"], ["few"]), *_back("few")],
    "rest": [node("Mod", ["clip", "eighth"], ["left"], fmod=1), node("Sub", ["clip", "left"], ["seen"])],
}
BLIND: dict[str, list[NodeProto]] = {
    "threshold": [
        node("Greater", ["clip", "half"], ["bright"]),
        node("Cast", ["bright"], ["seen"], to=TensorProto.FLOAT),
    ],
    "sign": [node("Sub", ["clip", "half"], ["middle"]), node("Sign", ["middle"], ["seen"])],
    "choice": [node("Greater", ["clip", "half"], ["bright"]), node("Where", ["bright", "eighth", "half"], ["seen"])],
}


def loaded(folder: Path, before: Sequence[NodeProto]) -> Target:
    """Load seen = before(clip), relu(seen W) V."""
    random = np.random.default_rng(0)
    used = {name for n in before for name in n.input}
    weights = {
        "fc.weight": random.normal(0, 0.2, (VALUES, 8)).astype("f4"),
        "head.weight": random.normal(0, 0.5, (8, CLASSES)).astype("f4"),
    }
    constants = {**weights, **{name: np.array(v) for name, v in CONSTANTS.items() if name in used}}
    layers = [
        *before,
        node("Flatten", ["seen"], ["rows"], axis=1),
        node("MatMul", ["rows", "fc.weight"], ["hidden"]),
        node("Relu", ["hidden"], ["positive"]),
        node("MatMul", ["positive", "head.weight"], ["logits"]),
    ]
    graph = helper.make_graph(
        layers,
        "flat",
        [helper.make_tensor_value_info("clip", TensorProto.FLOAT, ["n", 3, FRAMES, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(v, name) for name, v in constants.items()],
    )
    path = folder / "flat.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return load(str(path), layout="NCTHW")


def slope(target: Target) -> torch.Tensor:
    x = torch.rand(1, FRAMES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).requires_grad_()
    with torch.enable_grad():
        (found,) = torch.autograd.grad(target.model(x).square().sum(), x, allow_unused=True)
    return torch.zeros_like(x) if found is None else found


@pytest.mark.parametrize("name", SEEN)
def test_derivatives_go_through_what_a_file_rounds(tmp_path: Path, name: str) -> None:
    target = loaded(tmp_path, SEEN[name])
    assert target.fidelity.blind == ()
    assert target.model.sees_through
    assert float((slope(target) != 0).float().mean()) > 0.9
    assert set(target.parameters) == {"fc.weight", "head.weight"}
    assert target.fidelity.gradient_check is not None


@pytest.mark.parametrize("name", BLIND)
def test_a_file_whose_steps_have_no_slope_makes_the_audit_blind(tmp_path: Path, name: str) -> None:
    target = loaded(tmp_path, BLIND[name])
    assert target.fidelity.blind
    assert not slope(target).any()
