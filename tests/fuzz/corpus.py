"""Files that once crashed, hung, grew or read what they must not, each made in a few lines, and what must be said."""

from collections.abc import Callable

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper
from seeds import handmade

Case = tuple[Callable[[], ModelProto], str]
value = helper.make_tensor_value_info


def _after(*nodes: object, tensors: tuple[TensorProto, ...] = ()) -> ModelProto:
    """Return the handmade classifier with nodes that read its `raw` output and must make `logits`."""
    model = handmade()
    model.graph.node[-1].output[0] = "raw"
    model.graph.node.extend(nodes)  # type: ignore[arg-type]
    model.graph.initializer.extend(tensors)
    return model


def _int(name: str, *numbers: int, shape: tuple[int, ...] | None = None) -> TensorProto:
    return numpy_helper.from_array(
        np.array(numbers, np.int64).reshape((len(numbers),) if shape is None else shape), name
    )


def tensor_of_a_type_that_denies_it() -> ModelProto:
    """A Constant whose attribute says integer and holds a tensor in another file: onnx read that file unchecked."""
    model = _after(helper.make_node("Constant", [], ["c"]), helper.make_node("Add", ["raw", "c"], ["logits"]))
    attribute = model.graph.node[-2].attribute.add()
    attribute.name, attribute.type = "value", 2
    attribute.t.dims.append(3)
    attribute.t.data_type = TensorProto.FLOAT
    attribute.t.data_location = TensorProto.EXTERNAL
    entry = attribute.t.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    return model


def sparse_index_outside() -> ModelProto:
    """A sparse tensor with an index far outside its shape: torch would have written there."""
    model = _after(helper.make_node("Add", ["raw", "s"], ["logits"]))
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "s"))
    sparse.indices.CopyFrom(_int("i", 0, 10**9, shape=(1, 2)))
    sparse.dims.extend([1, 3])
    return model


def sparse_terabyte() -> ModelProto:
    """A sparse tensor of one number and 2^42 zeros."""
    model = sparse_index_outside()
    model.graph.sparse_initializer[0].dims[:] = [2**21, 2**21]
    return model


def negative_extent() -> ModelProto:
    """A weight of shape (-1, 3), which numpy takes for a question."""
    model = handmade()
    model.graph.initializer[1].dims[0] = -1
    return model


def functions_that_double() -> ModelProto:
    """Forty functions, each of which calls the next one twice."""
    model = _after(helper.make_node("F0", ["raw"], ["logits"], domain="f"))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    model.opset_import.append(opsets[1])
    for i in range(40):
        calls = [helper.make_node(f"F{i + 1}", [a], [b], domain="f") for a, b in (("a", "m"), ("m", "b"))]
        last = [helper.make_node("Relu", ["a"], ["b"])]
        model.functions.append(helper.make_function("f", f"F{i}", ["a"], ["b"], last if i == 39 else calls, opsets))
    return model


def function_that_calls_itself() -> ModelProto:
    """A function that calls itself."""
    model = functions_that_double()
    del model.functions[2:]
    model.functions[1].node[0].op_type = model.functions[1].node[1].op_type = "F0"
    return model


def reshaped_to_many_axes() -> ModelProto:
    """Fifty thousand axes of one element; a reduction over them took half a minute."""
    deep = _int("deep", *[1] * 50_000, -1)
    nodes = [
        helper.make_node("Reshape", ["raw", "deep"], ["wide"]),
        helper.make_node("ReduceMax", ["wide"], ["logits"]),
    ]
    return _after(*nodes, tensors=(deep,))


def filled_terabyte() -> ModelProto:
    """ConstantOfShape of 2^62 numbers."""
    shape = _int("shape", 2**31, 2**31)
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["big"]),
        helper.make_node("Add", ["raw", "big"], ["logits"]),
    ]
    return _after(*nodes, tensors=(shape,))


def product_of_two_vectors() -> ModelProto:
    """Two vectors of half a megabyte whose outer sum has 2^34 numbers."""
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["column"]),
        helper.make_node("Transpose", ["column"], ["row"]),
        helper.make_node("Add", ["column", "row"], ["big"]),
        helper.make_node("ReduceMax", ["big"], ["most"], keepdims=0),
        helper.make_node("Add", ["raw", "most"], ["logits"]),
    ]
    return _after(*nodes, tensors=(_int("shape", 2**17, 1),))


def window_as_large_as_the_frame() -> ModelProto:
    """A pool whose window has two million cells, moved two million times."""
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["frame"]),
        helper.make_node("MaxPool", ["frame"], ["pooled_frame"], kernel_shape=[1400, 1400]),
        helper.make_node("ReduceMax", ["pooled_frame"], ["most"], keepdims=0),
        helper.make_node("Add", ["raw", "most"], ["logits"]),
    ]
    return _after(*nodes, tensors=(_int("shape", 1, 1, 2800, 2800),))


def loops_in_loops() -> ModelProto:
    """Nine loops of 9,999 rounds, one inside another."""
    body = None
    for i in range(9):
        work = helper.make_node("Add", ["s", "s"], ["t"])
        if body is not None:
            work = helper.make_node("Loop", ["rounds", "", "s"], ["t"], body=body)
        body = helper.make_graph(
            [helper.make_node("Identity", ["go"], ["on"]), work],
            f"body{i}",
            [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("s", TensorProto.FLOAT, None)],
            [value("on", TensorProto.BOOL, []), value("t", TensorProto.FLOAT, None)],
        )
    node = helper.make_node("Loop", ["rounds", "", "raw"], ["logits"], body=body)
    return _after(node, tensors=(_int("rounds", 9999, shape=()),))


def split_into_a_million_million() -> ModelProto:
    """Split with an absurd number of outputs, which became a list of that length."""
    model = _after(helper.make_node("Split", ["raw"], ["logits", "rest"], axis=1, num_outputs=2**40))
    model.opset_import[0].version = model.functions[0].opset_import[0].version = 18
    del model.functions[0].node[:]
    pool = [helper.make_node("GlobalAveragePool", ["x"], ["m"]), helper.make_node("Flatten", ["m"], ["y"])]
    model.functions[0].node.extend(pool)
    return model


def scope_with_an_unhashable_key() -> ModelProto:
    """A node scope that is Python, but no list of names; it loads."""
    model = handmade()
    entry = model.graph.node[0].metadata_props.add()
    entry.key, entry.value = "pkg.torch.onnx.name_scopes", "[{[]: 1}]"
    return model


def name_of_ten_thousand_parts() -> ModelProto:
    """A weight called a.a.a..., which became ten thousand nested modules; it loads."""
    model = handmade()
    model.graph.initializer[1].name = model.graph.node[-1].input[1] = ".".join("a" * 10_000)
    return model


def clip_of_a_terabyte() -> ModelProto:
    """An input that declares two million frames of two million rows."""
    model = handmade()
    for extent, size in zip(model.graph.input[0].type.tensor_type.shape.dim[2:4], (2**21, 2**21), strict=True):
        extent.dim_value = size
    return model


def text_that_is_no_text() -> ModelProto:
    """A note on a node that is not UTF-8; it loads."""
    model = handmade()
    entry = model.graph.node[0].metadata_props.add()
    entry.key, entry.value = "note", "broken"
    return ModelProto.FromString(model.SerializeToString().replace(b"broken", b"\xff\xfeoken"))


def dropout_of_a_shape() -> ModelProto:
    """A Dropout whose ratio is a tensor of several numbers."""
    ratio = numpy_helper.from_array(np.ones(3, np.float32), "ratio")
    return _after(helper.make_node("Dropout", ["raw", "ratio"], ["logits"]), tensors=(ratio,))


def normalisation_without_statistics() -> ModelProto:
    """A BatchNormalization with one input."""
    return _after(helper.make_node("BatchNormalization", ["raw"], ["logits"]))


def node_without_outputs() -> ModelProto:
    """A node without name or outputs that fails."""
    return _after(helper.make_node("Reshape", ["raw"], []), helper.make_node("Identity", ["raw"], ["logits"]))


# What each must end in: a part of the message, or "" where the file loads.
CORPUS: tuple[Case, ...] = (
    (tensor_of_a_type_that_denies_it, "outside its folder"),
    (sparse_index_outside, "damaged"),
    (sparse_terabyte, "sparse tensors"),
    (negative_extent, "its shape is (-1, 3)"),
    (functions_that_double, "local functions stand for"),
    (function_that_calls_itself, "calls itself"),
    (reshaped_to_many_axes, "axes"),
    (filled_terabyte, "numbers at once"),
    (product_of_two_vectors, "numbers at once"),
    (window_as_large_as_the_frame, "multiplies more often"),
    (loops_in_loops, "more operations"),
    (split_into_a_million_million, "parts"),
    (scope_with_an_unhashable_key, ""),
    (name_of_ten_thousand_parts, ""),
    (clip_of_a_terabyte, "a clip of shape"),
    (text_that_is_no_text, ""),
    (dropout_of_a_shape, "ratio"),
    (normalisation_without_statistics, "BatchNormalization"),
    (node_without_outputs, "Reshape"),
)
