"""ONNX's own node cases for every operator of the importer."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, numpy_helper

from auditor.model.graph import DTYPES, Graph, read_graph, tensor_of
from auditor.model.interpreter import CONTROL, OnnxModule
from auditor.model.operators import OPERATORS
from auditor.model.trainable import Roles

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from onnx.backend.test.case.node import collect_testcases

    ALL = {case.name: case for case in collect_testcases(None)}

KNOWN = {name for domain, name in OPERATORS if not domain} | {*CONTROL, "Constant"}
NOTHING = Roles({}, {}, {})

# Cases that are left out, by a part of their name, and why.
EXCLUDED = {
    "batchnorm_example_training_mode": "also returns running statistics, which never change here",
    "batchnorm_epsilon_training_mode": "also returns running statistics, which never change here",
    "dropout_default_mask": "also returns the mask; dropout is off here",
    "training_dropout": "drops units at random; dropout is off here",
    "test_compress": "the output's shape depends on the input's values",
    "maxpool_with_argmax": "returns indices, which carry no gradient",
    "type_positive_delta_expanded": "a loop whose length is the float input that stands for the clip",
    "empty_set": "a maximum over nothing",
    "scales_linear_align_corners": "fractional output sizes, on which ONNX Runtime and the reference disagree",
    "scales_cubic_align_corners": "fractional output sizes, on which ONNX Runtime and the reference disagree",
    "tf_crop_and_resize": "crops by a region of interest: refused",
    "nearest_not_larger": "keeps the aspect ratio: refused",
    "nearest_not_smaller": "keeps the aspect ratio: refused",
    "test_scan_sum": "operator set 8, whose Scan has a batch axis",
    "bitwise_not_3d": "uint16, which torch computes as int32",
}
HALF = ("bf16", "BFLOAT16", "bfloat16", "float16", "fp16")  # computed in float32 here


def nodes_of(graph: Any) -> list[Any]:
    nested = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return [*graph.node, *(node for inner in nested for node in nodes_of(inner))]


def in_scope(case: Any) -> bool:
    nodes = nodes_of(case.model.graph)
    if not all(not node.domain and node.op_type in KNOWN for node in nodes):
        return False
    values = [*case.model.graph.input, *case.model.graph.output]
    return all(
        v.type.HasField("sequence_type") or (v.type.HasField("tensor_type") and v.type.tensor_type.elem_type in DTYPES)
        for v in values
    )


IN_SCOPE = [name for name, case in ALL.items() if in_scope(case)]
CASES = [name for name in IN_SCOPE if not any(part in name for part in EXCLUDED)]


def tensors(value: Any) -> Any:
    """Return what a case holds as the importer would read it."""
    if isinstance(value, list):
        return [tensors(item) for item in value]
    proto = value if isinstance(value, TensorProto) else numpy_helper.from_array(np.asarray(value))
    return tensor_of(proto)


@pytest.mark.parametrize("name", CASES)
def test_node_case(name: str) -> None:
    case = ALL[name]
    graph = read_graph(case.model)
    given, expected = case.data_sets[0]
    names = [v.name for v in case.model.graph.input]
    inputs = {k: tensors(v) for k, v in zip(names, given, strict=False) if v is not None}
    # As in a model: one input is the clip, everything else is known when the graph is traced.
    floats = [k for k, v in inputs.items() if isinstance(v, torch.Tensor) and v.is_floating_point()]
    live = next(iter(floats), "")
    rest = {k: v for k, v in inputs.items() if k != live}
    for declared, wanted in zip(case.model.graph.output, expected, strict=True):
        single = Graph(graph.nodes, {**graph.constants, **rest}, (live,), (declared.name,))
        module = OnnxModule(single, NOTHING)
        module.batch_statistics = any(node.attributes.get("training_mode") for node in graph.nodes)
        ours = module(inputs.get(live, torch.zeros(1)))
        theirs = tensors(wanted)
        pairs = zip(ours, theirs, strict=True) if isinstance(theirs, list) else [(ours, theirs)]
        for a, b in pairs:
            assert tuple(a.shape) == tuple(b.shape)
            rtol, atol = (2e-2, 5e-3) if any(part in name for part in HALF) else (1e-3, 1e-5)
            torch.testing.assert_close(a.to(b.dtype), b, rtol=rtol, atol=atol, equal_nan=True)


def test_how_many_cases_run() -> None:
    assert len(CASES) > 1300
    assert all(any(part in name for name in IN_SCOPE) for part in EXCLUDED)
    covered = {node.op_type for name in CASES for node in nodes_of(ALL[name].model.graph)}
    # ONNX has no case for these in the operator sets it generates cases for, or only excluded ones (Compress).
    rest = {
        "Compress",
        "ConcatFromSequence",
        "GlobalLpPool",
        "SequenceErase",
        "SequenceEmpty",
        "SequenceAt",
        "Upsample",
    }
    assert KNOWN - covered <= rest | {"Scatter", "ConstantOfShape", "Loop"}
