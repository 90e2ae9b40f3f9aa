"""Small graphs that ask for much: memory, time, depth. Each takes a graph that works and adds one demand to it."""

import random
from collections.abc import Callable

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

Bomb = Callable[[random.Random, ModelProto], None]
SIZES = (
    (2**16, 2**16),
    (2**20, 2**12),
    (2**31, 4),
    (2**40,),
    (2**62, 2**62),
    (0, 2**40),
    (2**13, 2**13),
    (2**11, 2**11),
)


def _constant(model: ModelProto, name: str, *numbers: float, kind: type = np.int64, scalar: bool = False) -> str:
    array = np.array(numbers[0] if scalar else numbers, kind)
    model.graph.initializer.append(numpy_helper.from_array(array, name))
    return name


def _feed(model: ModelProto, made: list[NodeProto], big: str) -> None:
    """Add nodes; their result joins the output as a zero, so that nothing may skip them."""
    final = model.graph.output[0].name
    for node in model.graph.node:
        for i, name in enumerate(node.output):
            if name == final:
                node.output[i] = "before_bomb"
    model.graph.node.extend(made)
    kept = model.graph.initializer.add()
    kept.CopyFrom(numpy_helper.from_array(np.zeros((), np.float32), "bomb_zero"))
    model.graph.node.extend(
        [
            helper.make_node("ReduceMax", [big], ["bomb_max"], keepdims=0),
            helper.make_node("Mul", ["bomb_max", "bomb_zero"], ["bomb_nothing"]),
            helper.make_node("Add", ["before_bomb", "bomb_nothing"], [final]),
        ]
    )


def filled(r: random.Random, model: ModelProto) -> None:
    """ConstantOfShape, alone or through Expand, Tile, EyeLike, RandomNormalLike or a product."""
    shape = _constant(model, "bomb_shape", *r.choice(SIZES))
    how = r.randrange(7)
    one = _constant(model, "bomb_one", 1.0, kind=np.float32)
    made = {
        0: [helper.make_node("ConstantOfShape", [shape], ["bomb"])],
        1: [helper.make_node("Expand", [one, shape], ["wide"]), helper.make_node("Exp", ["wide"], ["bomb"])],
        2: [
            helper.make_node("ConstantOfShape", [_constant(model, "two", 4, 4)], ["s"]),
            helper.make_node("Tile", ["s", shape], ["bomb"]),
        ],
        3: [helper.make_node("Expand", [one, shape], ["wide"]), helper.make_node("EyeLike", ["wide"], ["bomb"])],
        4: [
            helper.make_node("Expand", [one, shape], ["wide"]),
            helper.make_node("RandomNormalLike", ["wide"], ["bomb"]),
        ],
        5: [
            helper.make_node("ConstantOfShape", [_constant(model, "col", 2**17, 1)], ["s"]),
            helper.make_node("Transpose", ["s"], ["t"]),
            helper.make_node(r.choice(("Add", "MatMul", "Equal")), ["s", "t"], ["raw"]),
            helper.make_node("Cast", ["raw"], ["bomb"], to=1),
        ],
        6: [helper.make_node("RandomNormal", [], ["bomb"], shape=list(r.choice(SIZES)))],
    }[how]
    _feed(model, made, "bomb")


def counted(r: random.Random, model: ModelProto) -> None:
    """Range, OneHot, Pad, Resize, Split, Unsqueeze: sizes from single numbers."""
    size = r.choice((2**24, 2**30, 2**40, 2**62, 100_000))
    clip = model.graph.input[0].name
    rank = max(1, len(model.graph.input[0].type.tensor_type.shape.dim))
    n = _constant(model, "bomb_n", size, scalar=True)
    one = _constant(model, "bomb_one", 1, scalar=True)
    how = r.randrange(7)
    if how == 0:
        made = [helper.make_node("Range", [one, n, one], ["raw"]), helper.make_node("Cast", ["raw"], ["bomb"], to=1)]
    elif how == 1:
        pair = _constant(model, "pair", 0.0, 1.0, kind=np.float32)
        made = [helper.make_node("OneHot", [one, n, pair], ["bomb"])]
    elif how == 2:
        pads = _constant(model, "pads", *[0] * (2 * rank - 1), size)
        made = [helper.make_node("Pad", [clip, pads], ["bomb"], mode=r.choice(("constant", "edge", "reflect")))]
    elif how == 3:
        scales = _constant(
            model, "scales", *[1.0] * (rank - 1), r.choice((1e9, 1e5, 1e-9, float("nan"))), kind=np.float32
        )
        mode = r.choice(("nearest", "linear", "cubic"))
        made = [helper.make_node("Resize", [clip, "", scales], ["bomb"], mode=mode, antialias=int(mode != "nearest"))]
    elif how == 4:
        made = [helper.make_node("Split", [clip], ["bomb", "rest"], axis=0, num_outputs=size % 2**62)]
    elif how == 5:
        axes = _constant(model, "axes", *range(50_000))
        made = [helper.make_node("Unsqueeze", [clip, axes], ["bomb"])]
    else:
        deep = _constant(model, "deep", *[1] * 50_000, -1)
        made = [helper.make_node("Reshape", [clip, deep], ["bomb"])]
    _feed(model, made, "bomb")


def heavy(r: random.Random, model: ModelProto) -> None:
    """Little memory, much time: products, pools, convolutions and recurrences."""
    how = r.randrange(5)
    made = [
        helper.make_node("ConstantOfShape", [_constant(model, "side", 1, 1, 2800, 2800)], ["s"]),
        helper.make_node("Cos", ["s"], ["square"]),
    ]
    if how == 0:
        made.append(helper.make_node("MatMul", ["square", "square"], ["p0"]))
        made += [helper.make_node("MatMul", [f"p{i}", "square"], [f"p{i + 1}"]) for i in range(40)]
        made.append(helper.make_node("Identity", ["p40"], ["bomb"]))
    elif how == 1:
        kind = r.choice(("MaxPool", "AveragePool"))
        made.append(helper.make_node(kind, ["square"], ["bomb"], kernel_shape=[1400, 1400], strides=[1, 1]))
    elif how == 2:
        made.append(helper.make_node("Conv", ["square", "square"], ["bomb"], pads=[1400] * 4))
    elif how == 3:
        made += [
            helper.make_node("ConstantOfShape", [_constant(model, "x", 2**21, 1, 1)], ["x0"]),
            helper.make_node("ConstantOfShape", [_constant(model, "w", 1, 4, 1)], ["w0"]),
            helper.make_node("LSTM", ["x0", "w0", "w0"], ["bomb"], hidden_size=1),
        ]
    else:
        made.append(helper.make_node("Einsum", ["square", "square"], ["bomb"], equation="abij,abkl->ijkl"))
    _feed(model, made, "bomb")


def _body(steps: int, inner: GraphProto | None) -> GraphProto:
    """Return a loop body that runs `inner`, a loop as well, or adds."""
    nodes = [helper.make_node("Identity", ["go"], ["on"])]
    if inner is None:
        nodes.append(helper.make_node("Add", ["state", "state"], ["next"]))
    else:
        nodes.append(helper.make_node("Loop", ["bomb_rounds", "", "state"], ["next"], body=inner))
    value = helper.make_tensor_value_info
    return helper.make_graph(
        nodes,
        f"body{steps}",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("state", TensorProto.FLOAT, None)],
        [value("on", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, None)],
    )


def loops(r: random.Random, model: ModelProto) -> None:
    """Loops of many rounds, and loops inside loops."""
    rounds = _constant(model, "bomb_rounds", r.choice((100, 9_999, 10**9, 2**63 - 1)), scalar=True)
    start = _constant(model, "bomb_start", 1e-9, kind=np.float32)
    body = _body(0, None)
    for i in range(r.choice((0, 1, 3, 8))):
        body = _body(i + 1, body)
    _feed(model, [helper.make_node("Loop", [rounds, "", start], ["bomb"], body=body)], "bomb")


def growing(r: random.Random, model: ModelProto) -> None:
    """Values that double, in a chain or in a loop."""
    start = _constant(model, "bomb_start", 1.0, kind=np.float32)
    count = r.choice((20, 33, 60))
    made = [helper.make_node("Concat", [start, start], ["g0"], axis=0)]
    made += [helper.make_node("Concat", [f"g{i}", f"g{i}"], [f"g{i + 1}"], axis=0) for i in range(count)]
    _feed(model, made, f"g{count}")


def nested(r: random.Random, model: ModelProto) -> None:
    """Branches inside branches."""
    yes = _constant(model, "bomb_yes", True, kind=np.bool_, scalar=True)
    out = helper.make_tensor_value_info("deepest", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Identity", [model.graph.input[0].name], ["deepest"])], "d", [], [out])
    for _ in range(r.choice((3, 14, 17, 30))):
        node = helper.make_node(
            "If", [yes], ["deepest"], then_branch=graph, else_branch=graph if r.random() < 0.1 else None
        )
        graph = helper.make_graph([node], "d", [], [out])
    made = [helper.make_node("If", [yes], ["bomb"], then_branch=graph, else_branch=graph)]
    _feed(model, made, "bomb")


def functions(r: random.Random, model: ModelProto) -> None:
    """Local functions that call themselves, or one another twice each."""
    depth = r.choice((1, 3, 10, 18, 40, 300))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    model.opset_import.append(helper.make_opsetid("f", 1))
    for i in range(depth):
        last = i + 1 == depth
        callee = "F0" if last and r.random() < 0.5 else f"F{i + 1}"
        calls = [helper.make_node("Relu", ["a"], ["b"])] if last and callee != "F0" else [
            helper.make_node(callee, ["a"], ["m"], domain="f"),
            helper.make_node(callee, ["m"], ["b"], domain="f"),
        ]  # fmt: skip
        model.functions.append(helper.make_function("f", f"F{i}", ["a"], ["b"], calls, opsets))
    if r.random() < 0.1:
        model.functions.append(model.functions[0])
    _feed(model, [helper.make_node("F0", [model.graph.input[0].name], ["bomb"], domain="f")], "bomb")


def many(r: random.Random, model: ModelProto) -> None:
    """Thousands of empty or tiny things."""
    how = r.randrange(4)
    if how == 0:
        for _ in range(20_000):
            model.graph.node.add()
    elif how == 1:
        for i in range(5_000):
            model.graph.initializer.add().name = str(i)
    elif how == 2:
        clip = model.graph.input[0].name
        made = [helper.make_node("Relu", [clip], ["m0"])]
        made += [helper.make_node("Relu", [f"m{i}"], [f"m{i + 1}"]) for i in range(5_000)]
        _feed(model, made, "m5000")
    else:
        model.graph.node[0].input.extend(["q"] * 100_000)


BOMBS: tuple[Bomb, ...] = (filled, counted, heavy, loops, growing, nested, functions, many)
