"""Mutations of the parsed file: graphs that are valid protobuf and mean something no exporter would write."""

import random
from collections.abc import Callable, Iterator

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

HUGE = (-1, 0, 1, 2, 7, 255, 2**15, 2**20, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**31), -(2**63))
NAMES = (
    "",
    " ",
    "a.b",
    ".",
    "..",
    "training",
    "weight",
    "x" * 100_000,
    "<script>",
    "\x1b[31m",
    "\u202e",
    "a\nb",
    ".a" * 5000,
)
OPERATORS = (
    "Relu", "Conv", "Frobnicate", "MatMul", "Gemm", "Reshape", "Expand", "Tile", "Loop", "If", "Scan", "Range", "Pad",
    "OneHot", "Resize", "EyeLike", "LSTM", "GRU", "MaxPool", "AveragePool", "Split", "Slice", "Concat", "Gather",
    "GatherND", "ScatterND", "Einsum", "TopK", "CumSum", "Attention", "NonZero", "Cast", "SequenceInsert", "SequenceAt",
    "ConstantOfShape", "Transpose", "Squeeze", "Unsqueeze", "RandomNormalLike", "ConvTranspose", "BatchNormalization",
    "LayerNormalization", "InstanceNormalization", "GridSample", "DepthToSpace", "ReduceProd", "StringNormalizer",
)  # fmt: skip


def graphs(graph: GraphProto, depth: int = 0) -> Iterator[GraphProto]:
    """Yield a graph and the graphs inside its nodes."""
    yield graph
    for node in graph.node if depth < 4 else ():
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs(attribute.g, depth + 1)


def _node(r: random.Random, model: ModelProto) -> NodeProto:
    graph = r.choice([g for g in graphs(model.graph) if g.node] or [model.graph])
    return r.choice(graph.node) if graph.node else graph.node.add()


def _tensors(model: ModelProto) -> list[TensorProto]:
    found = [t for g in graphs(model.graph) for t in g.initializer]
    found += [a.t for g in graphs(model.graph) for n in g.node for a in n.attribute if a.HasField("t")]
    return found or [model.graph.initializer.add()]


def _value(r: random.Random, model: ModelProto) -> str:
    """Return the name of any value, or one that does not exist."""
    names = [n for node in model.graph.node for n in (*node.input, *node.output)]
    names += [t.name for t in model.graph.initializer]
    return r.choice([*names, "ghost"])


def _float_value(r: random.Random, model: ModelProto) -> str:
    return r.choice([n for node in model.graph.node for n in node.output] or ["ghost"])


def attribute_value(r: random.Random, model: ModelProto) -> None:
    """Give an attribute a number that its operator does not expect."""
    node = _node(r, model)
    if not node.attribute:
        return
    attribute = r.choice(node.attribute)
    if attribute.ints:
        attribute.ints[r.randrange(len(attribute.ints))] = r.choice(HUGE)
        if r.random() < 0.2:
            del attribute.ints[r.randrange(len(attribute.ints)) :]
    elif attribute.floats:
        attribute.floats[0] = r.choice((float("nan"), float("inf"), -1e30, 1e-30, 0.0))
    elif attribute.HasField("s"):
        attribute.s = r.choice((b"", b"\xff\xfe", b"SAME_UPPER", b"bidirectional", b"x" * 10_000, b"ij,jk->ik"))
    elif attribute.HasField("f"):
        attribute.f = r.choice((float("nan"), float("inf"), -1e30, 1e-30, 0.0))
    else:
        attribute.i = r.choice(HUGE)


def attribute_type(r: random.Random, model: ModelProto) -> None:
    """Let the type of an attribute disagree with what it holds."""
    node = _node(r, model)
    if node.attribute:
        attribute = r.choice(node.attribute)
        attribute.type = r.choice(AttributeProto.AttributeType.values())
        if r.random() < 0.5:
            attribute.t.CopyFrom(r.choice(_tensors(model)))


def attribute_dropped(r: random.Random, model: ModelProto) -> None:
    """Drop or add an attribute."""
    node = _node(r, model)
    if node.attribute and r.random() < 0.6:
        del node.attribute[r.randrange(len(node.attribute))]
    else:
        name = r.choice(
            ("axis", "kernel_shape", "pads", "strides", "dilations", "num_outputs", "group", "to", "axes", "perm")
        )
        value = [r.choice(HUGE) for _ in range(r.choice((1, 2, 3, 6, 100)))]
        node.attribute.append(helper.make_attribute(name, value if r.random() < 0.5 else value[0]))


def tensor_dims(r: random.Random, model: ModelProto) -> None:
    """Declare another shape than the data have."""
    tensor = r.choice(_tensors(model))
    if tensor.dims and r.random() < 0.8:
        tensor.dims[r.randrange(len(tensor.dims))] = r.choice(HUGE)
    else:
        tensor.dims.extend(r.choice(HUGE) for _ in range(r.choice((1, 2, 80))))


def tensor_type(r: random.Random, model: ModelProto) -> None:
    """Declare another element type than the data have."""
    r.choice(_tensors(model)).data_type = r.choice((*TensorProto.DataType.values(), 77))


def tensor_data(r: random.Random, model: ModelProto) -> None:
    """Put other numbers into a tensor: NaN, huge ones, none, or shapes and axes that mean harm."""
    tensor = r.choice(_tensors(model))
    how = r.randrange(5)
    if how == 0:
        tensor.raw_data = b""
    elif how == 1:
        tensor.string_data.append(b"\xff")
    elif how == 2 and tensor.data_type == TensorProto.FLOAT and tensor.raw_data:
        tensor.raw_data = np.full(len(tensor.raw_data) // 4, r.choice((np.nan, np.inf, 1e38, 0.0)), "<f4").tobytes()
    elif tensor.data_type == TensorProto.INT64:
        count = max(1, len(tensor.raw_data) // 8 or len(tensor.int64_data))
        numbers = np.array([r.choice(HUGE) for _ in range(count)], np.int64)
        tensor.CopyFrom(
            numpy_helper.from_array(
                numbers.reshape(tensor.dims or ()) if count == np.prod(tensor.dims) else numbers, tensor.name
            )
        )
    else:
        tensor.raw_data = r.randbytes(len(tensor.raw_data))


def sparse(r: random.Random, model: ModelProto) -> None:
    """Replace an initializer by a sparse one with a huge dense shape."""
    if not model.graph.initializer:
        return
    old = model.graph.initializer.pop(r.randrange(len(model.graph.initializer)))
    new = model.graph.sparse_initializer.add()
    new.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), old.name))
    new.indices.CopyFrom(
        numpy_helper.from_array(np.array(r.choice(([0], [[0] * len(old.dims)], [2**40])), np.int64), "i")
    )
    new.dims.extend(r.choice((list(old.dims), [2**20, 2**14], [2**31, 2**31], [-1])))


def external(r: random.Random, model: ModelProto) -> None:
    """Let a tensor lie in another file."""
    tensor = r.choice(_tensors(model))
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    location = r.choice(("data", "../data", "/dev/zero", "/etc/passwd", ".", "m.onnx", "a\0b", "", "x" * 5000))
    for key, value in (("location", location), ("offset", r.choice(HUGE)), ("length", r.choice((*HUGE, "x")))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)


def operator(r: random.Random, model: ModelProto) -> None:
    """Let a node be another operator, or of another domain."""
    node = _node(r, model)
    if r.random() < 0.8:
        node.op_type = r.choice(OPERATORS)
    else:
        node.domain = r.choice(("ai.onnx", "com.microsoft", "ai.onnx.ml", "my.domain", "\x1b[31m"))


def inputs(r: random.Random, model: ModelProto) -> None:
    """Drop, swap, repeat or rename what nodes read."""
    node = _node(r, model)
    how = r.randrange(5)
    if how == 0 and node.input:
        del node.input[r.randrange(len(node.input))]
    elif how == 1 and len(node.input) > 1:
        kept = list(node.input)
        r.shuffle(kept)
        del node.input[:]
        node.input.extend(kept)
    elif how == 2:
        node.input.extend([_value(r, model)] * r.choice((1, 2, 1000)))
    elif node.input:
        node.input[r.randrange(len(node.input))] = "" if how == 3 else _value(r, model)


def outputs(r: random.Random, model: ModelProto) -> None:
    """Drop, repeat or cross what nodes produce; cycles and duplicates come of it."""
    node = _node(r, model)
    if node.output and r.random() < 0.7:
        node.output[r.randrange(len(node.output))] = r.choice(("", _value(r, model)))
    elif r.random() < 0.5:
        node.output.append(_value(r, model))
    else:
        del node.output[:]


def names(r: random.Random, model: ModelProto) -> None:
    """Give something a hostile name, everywhere it occurs."""
    new, old = r.choice(NAMES), _value(r, model)
    for node in model.graph.node:
        for values in (node.input, node.output):
            for i, name in enumerate(values):
                values[i] = new if name == old else name
    for tensor in model.graph.initializer:
        tensor.name = new if tensor.name == old else tensor.name
    _node(r, model).name = new
    entry = _node(r, model).metadata_props.add()
    entry.key, entry.value = "pkg.torch.onnx.name_scopes", r.choice((new, "[" * 5000, "[{[]: 1}]", "['\\d']", "[1, 2]"))


def nodes(r: random.Random, model: ModelProto) -> None:
    """Drop, repeat or reorder nodes."""
    how, held = r.randrange(4), list(model.graph.node)
    if not held:
        return
    if how == 0:
        del held[r.randrange(len(held))]
    elif how == 1:
        held += [held[r.randrange(len(held))]] * r.choice((1, 100))
    elif how == 2:
        r.shuffle(held)
    else:
        held = []
    copies = [NodeProto.FromString(node.SerializeToString()) for node in held]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def signature(r: random.Random, model: ModelProto) -> None:
    """Change what the graph says of its inputs and outputs."""
    graph = model.graph
    how = r.randrange(7)
    if how == 0 and graph.output:
        del graph.output[:]
    elif how == 1 and graph.input:
        graph.input.append(graph.input[0])
    elif how == 2 and graph.input:
        del graph.input[:]
    elif how == 3 and graph.output:
        graph.output[0].name = _value(r, model)
    elif graph.input:
        kind = graph.input[0].type
        if how == 4:
            kind.tensor_type.elem_type = r.choice((*TensorProto.DataType.values(), 99))
        elif how == 5:
            kind.sequence_type.elem_type.tensor_type.elem_type = 1
        elif kind.tensor_type.shape.dim:
            extent = r.choice(kind.tensor_type.shape.dim)
            extent.dim_value = r.choice(HUGE)
            if r.random() < 0.3:
                extent.dim_param = r.choice(NAMES)


def versions(r: random.Random, model: ModelProto) -> None:
    """Declare other versions of the format and of the operators."""
    if r.random() < 0.5 and model.opset_import:
        model.opset_import[0].version = r.choice((*HUGE, 1, 6, 11, 27, 10_000))
    else:
        model.ir_version = r.choice((*HUGE, 3, 14))


STRUCTURE: tuple[Callable[[random.Random, ModelProto], None], ...] = (
    attribute_value, attribute_value, attribute_type, attribute_dropped, tensor_dims, tensor_type, tensor_data,
    tensor_data, sparse, external, operator, operator, inputs, inputs, outputs, names, nodes, signature, versions,
)  # fmt: skip
