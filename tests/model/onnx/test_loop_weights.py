"""Weights that enter a Loop or Scan as a state, or as what it cuts into slices, are parameters."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper

from auditor.model import load

FRAMES, FEATURES, UNITS, CLASSES = 4, 3 * 8 * 8, 6, 5
RANDOM = np.random.default_rng(0)
VALUES = {
    "W": RANDOM.normal(0, 0.1, (FEATURES, UNITS)),
    "U": RANDOM.normal(0, 0.5, (UNITS, UNITS)),
    "steps": RANDOM.normal(0, 0.5, (FRAMES, UNITS)),
    "learned": RANDOM.normal(0, 0.5, (1, UNITS)),
    "zeros": np.zeros((1, UNITS)),
    "fc.weight": RANDOM.normal(0, 0.5, (CLASSES, UNITS)),
    "fc.bias": RANDOM.normal(0, 0.5, CLASSES),
}
value = helper.make_tensor_value_info
node = helper.make_node


def body(prefix: str, *, through: Sequence[str] = ("Identity",)) -> onnx.GraphProto:
    """Return h = tanh(x W + h U) with W and U handed on from round to round."""
    p = prefix
    nodes = [
        node("Gather", ["frames", f"{p}round"], [f"{p}x"], axis=1),
        node("MatMul", [f"{p}x", f"{p}w"], [f"{p}a"]),
        node("MatMul", [f"{p}h", f"{p}u"], [f"{p}b"]),
        node("Add", [f"{p}a", f"{p}b"], [f"{p}sum"]),
        node("Tanh", [f"{p}sum"], [f"{p}next"]),
        node("Identity", [f"{p}go"], [f"{p}go_on"]),
    ]
    ends = []
    for name in (f"{p}w", f"{p}u"):
        for i, operator in enumerate(through):
            nodes.append(node(operator, [name], [f"{name}_{i}"]))
            name = f"{name}_{i}"
        ends.append(name)
    floats = [f"{p}h", f"{p}w", f"{p}u"]
    inputs = [value(f"{p}round", TensorProto.INT64, []), value(f"{p}go", TensorProto.BOOL, [])]
    outputs = [value(f"{p}go_on", TensorProto.BOOL, [])]
    return helper.make_graph(
        nodes,
        f"{p}body",
        inputs + [value(name, TensorProto.FLOAT, None) for name in floats],
        outputs + [value(name, TensorProto.FLOAT, None) for name in (f"{p}next", *ends)],
    )


def written(path: Path, nodes: Sequence[NodeProto], state: str) -> str:
    """Write a graph that ends in a classifier of `state`."""
    used = {name for n in nodes for name in n.input} | {"fc.weight", "fc.bias"}
    constants = [numpy_helper.from_array(v.astype("f4"), name) for name, v in VALUES.items() if name in used]
    constants += [
        numpy_helper.from_array(np.array([-1, FRAMES, FEATURES]), "shape"),
        numpy_helper.from_array(np.array(FRAMES), "count"),
        numpy_helper.from_array(np.array(True), "yes"),
    ]
    graph = helper.make_graph(
        [
            node("Reshape", ["clip", "shape"], ["frames"]),
            *nodes,
            node("Gemm", [state, "fc.weight", "fc.bias"], ["logits"], transB=1),
        ],
        "g",
        [value("clip", TensorProto.FLOAT, ["n", FRAMES, 3, 8, 8])],
        [value("logits", TensorProto.FLOAT, ["n", CLASSES])],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return str(path)


def gradients(model, names: Sequence[str], clip: torch.Tensor) -> dict[str, torch.Tensor]:
    values = dict(model.named_parameters())
    found = torch.autograd.grad(model(clip).square().sum(), [values[name] for name in names])
    return dict(zip(names, found, strict=True))


def expected(names: Sequence[str], clip: torch.Tensor, *, start: str = "zeros", rounds: int = 1, steps: bool = False):
    """Return the gradients of the same network in plain torch."""
    p = {name: torch.tensor(v, dtype=torch.float32, requires_grad=name in names) for name, v in VALUES.items()}
    frames, h = clip.flatten(2), p[start]
    for _ in range(rounds):
        for t in range(FRAMES):
            h = torch.tanh(frames[:, t] @ p["W"] + h @ p["U"] + (p["steps"][t] if steps else 0))
    logits = h @ p["fc.weight"].T + p["fc.bias"]
    return dict(zip(names, torch.autograd.grad(logits.square().sum(), [p[n] for n in names]), strict=True))


@pytest.fixture
def clip() -> torch.Tensor:
    return torch.rand(2, FRAMES, 3, 8, 8, generator=torch.Generator().manual_seed(1))


HEAD = ("fc.weight", "fc.bias")


@pytest.mark.parametrize("through", [(), ("Identity",), ("Identity", "Identity")])
def test_states_that_a_loop_hands_on_are_parameters(through, tmp_path, clip) -> None:
    loop = node("Loop", ["count", "yes", "zeros", "W", "U"], ["h", "w", "u"], body=body("a", through=through))
    target = load(written(tmp_path / "m.onnx", [loop], "h"))
    names = ("W", "U", *HEAD)
    assert set(target.parameters) == set(names)
    torch.testing.assert_close(gradients(target.model, names, clip), expected(names, clip))
    assert any("6 are neither parameters nor running statistics: 'zeros' (1x6" in n for n in target.fidelity.notes)


def test_what_one_loop_passes_to_the_next_is_the_same_parameter(tmp_path, clip) -> None:
    first = node("Loop", ["count", "yes", "zeros", "W", "U"], ["h1", "w1", "u1"], body=body("a"))
    second = node("Loop", ["count", "yes", "h1", "w1", "u1"], ["h2", "w2", "u2"], body=body("b"))
    target = load(written(tmp_path / "m.onnx", [first, second], "h2"))
    names = ("W", "U", *HEAD)
    assert set(target.parameters) == set(names)
    torch.testing.assert_close(gradients(target.model, names, clip), expected(names, clip, rounds=2))


def test_a_loop_inside_a_loop_hands_on_its_weights(tmp_path, clip) -> None:
    inner = body("in")
    names = ["out_h", "out_w", "out_u"]
    outer = helper.make_graph(
        [
            node("Loop", ["count", "yes", *names], ["next_h", "next_w", "next_u"], body=inner),
            node("Identity", ["out_go"], ["out_go_on"]),
        ],
        "outer",
        [value("out_round", TensorProto.INT64, []), value("out_go", TensorProto.BOOL, [])]
        + [value(name, TensorProto.FLOAT, None) for name in names],
        [value("out_go_on", TensorProto.BOOL, [])]
        + [value(name, TensorProto.FLOAT, None) for name in ("next_h", "next_w", "next_u")],
    )
    twice = node("Constant", [], ["twice"], value=numpy_helper.from_array(np.array(2), "two"))
    loop = node("Loop", ["twice", "yes", "zeros", "W", "U"], ["h", "w", "u"], body=outer)
    target = load(written(tmp_path / "m.onnx", [twice, loop], "h"))
    wanted = ("W", "U", *HEAD)
    assert set(target.parameters) == set(wanted)
    torch.testing.assert_close(gradients(target.model, wanted, clip), expected(wanted, clip, rounds=2))


def test_a_learned_initial_state_is_a_parameter(tmp_path, clip) -> None:
    """Zeros to begin from are no parameter; other numbers are."""
    loop = node("Loop", ["count", "yes", "learned", "W", "U"], ["h", "w", "u"], body=body("a"))
    target = load(written(tmp_path / "m.onnx", [loop], "h"))
    names = ("learned", "W", "U", *HEAD)
    assert set(target.parameters) == set(names)
    torch.testing.assert_close(gradients(target.model, names, clip), expected(names, clip, start="learned"))
    assert "All " in target.fidelity.notes[-1]


def test_states_and_slices_of_a_scan_are_parameters(tmp_path, clip) -> None:
    states = ["h", "w", "u"]
    scanned = helper.make_graph(
        [
            node("MatMul", ["x", "w"], ["a"]),
            node("MatMul", ["h", "u"], ["b"]),
            node("Sum", ["a", "b", "step"], ["sum"]),
            node("Tanh", ["sum"], ["next"]),
            node("Identity", ["w"], ["w_on"]),
            node("Identity", ["u"], ["u_on"]),
        ],
        "scanned",
        [value(name, TensorProto.FLOAT, None) for name in (*states, "x", "step")],
        [value(name, TensorProto.FLOAT, None) for name in ("next", "w_on", "u_on")],
    )
    nodes = [
        node("Slice", ["frames", "first", "last", "axes"], ["one"]),
        node("ReduceSum", ["one", "sides"], ["none"], keepdims=0),
        node("Mul", ["none", "nought"], ["nothing"]),
        node("Unsqueeze", ["nothing", "last"], ["column"]),
        node("Add", ["column", "zeros"], ["start"]),  # a state of the batch's own size
        node(
            "Scan",
            ["start", "W", "U", "frames", "steps"],
            ["end", "w2", "u2"],
            body=scanned,
            num_scan_inputs=2,
            scan_input_axes=[1, 0],
        ),
    ]
    numbers = {"first": [0], "last": [1], "axes": [1], "sides": [1, 2]}
    given = [
        node("Constant", [], [name], value=numpy_helper.from_array(np.array(v), name)) for name, v in numbers.items()
    ]
    given.append(node("Constant", [], ["nought"], value=numpy_helper.from_array(np.float32(0), "nought")))
    target = load(written(tmp_path / "m.onnx", [*given, *nodes], "end"))
    names = ("W", "U", "steps", *HEAD)
    assert set(names) <= set(target.parameters)
    assert set(target.parameters) <= {*names, "zeros"}  # added to what depends on the clip: a bias for all that is told
    torch.testing.assert_close(gradients(target.model, names, clip), expected(names, clip, steps=True))


def test_weights_that_a_round_takes_from_a_sequence_are_parameters(tmp_path, clip) -> None:
    nodes = [
        node("Gather", ["frames", "round"], ["x"], axis=1),
        node("SequenceAt", ["weights", "round"], ["u"]),
        node("MatMul", ["x", "W"], ["a"]),
        node("MatMul", ["s", "u"], ["b"]),
        node("Add", ["a", "b"], ["sum"]),
        node("Tanh", ["sum"], ["next"]),
        node("Identity", ["go"], ["go_on"]),
    ]
    inputs = [value("round", TensorProto.INT64, []), value("go", TensorProto.BOOL, [])]
    outputs = [value("go_on", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, None)]
    rounds = helper.make_graph(nodes, "rounds", [*inputs, value("s", TensorProto.FLOAT, None)], outputs)
    loop = node("Loop", ["count", "yes", "zeros"], ["h"], body=rounds)
    # The file's own reader of names looks at the outer nodes only.
    shown = node("Identity", ["W"], ["unread"])
    target = load(
        written(tmp_path / "m.onnx", [node("SequenceConstruct", ["U"] * FRAMES, ["weights"]), loop, shown], "h")
    )
    names = ("W", "U", *HEAD)
    assert set(target.parameters) == set(names)
    torch.testing.assert_close(gradients(target.model, names, clip), expected(names, clip))
