"""ONNX's own node cases: which of them the importer must pass, which are left out and why, and how one is run."""

import functools
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from onnx import TensorProto, numpy_helper

from auditor.model.onnx.graph import DTYPES, Graph, Node, read_graph, tensor_of
from auditor.model.onnx.interpreter import OnnxModule
from auditor.model.onnx.operators import OPERATORS
from auditor.model.onnx.parameters.trainable_constants import Roles
from auditor.model.onnx.support import CONTROL

NOTHING = Roles({}, {}, {})
KNOWN = frozenset({name for domain, name in OPERATORS if not domain} | {*CONTROL, "Constant"})
HALF = ("bf16", "BFLOAT16", "bfloat16", "float16", "fp16")  # computed in float32 here

# Cases that are left out, by a pattern that their whole name matches, and why.
EXCLUDED: Mapping[str, str] = {
    r"test_training_dropout(_default)?(_mask)?": "drops units at random; dropout is off here",
    r"test_reduce_max_empty_set_bool": "a maximum over no truth values",
    r"test_resize_downsample_scales_(linear|cubic)_align_corners": (
        "a fractional output size, on which ONNX Runtime and the reference disagree"
    ),
    r"test_scan_sum": "operator set 8, whose Scan has a batch axis",
    r"test_bitwise_not_3d": "uint16, which torch computes as int32",
}


@functools.cache
def all_cases() -> Mapping[str, Any]:
    """Return every node case that onnx generates, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        return {case.name: case for case in collect_testcases(None)}


def nodes_of(graph: Any) -> list[Any]:
    """Return the nodes of a graph and of those nested in it."""
    nested = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return [*graph.node, *(node for inner in nested for node in nodes_of(inner))]


def operators_of(case: Any) -> set[tuple[str, str]]:
    """Return (domain, name) of every operator that a case runs."""
    return {(node.domain, node.op_type) for node in nodes_of(case.model.graph)}


def subject(name: str) -> set[tuple[str, str]]:
    """Return the operators that a case is about: an expanded form is about the operator that it expands."""
    base = re.sub(r"_expanded(_ver\d+)?$", "", name)
    return operators_of(all_cases().get(base, all_cases()[name]))


def left_out(name: str) -> str:
    """Return why a case is not run; empty for one that must pass."""
    case = all_cases()[name]
    for pattern, reason in EXCLUDED.items():
        if re.fullmatch(pattern, name):
            return reason
    strange = sorted(op for domain, op in operators_of(case) if domain or op not in KNOWN)
    if strange:
        return f"uses {', '.join(strange)}"
    for value in (*case.model.graph.input, *case.model.graph.output):
        if value.type.HasField("sequence_type"):
            continue
        kind = value.type.tensor_type.elem_type
        if not value.type.HasField("tensor_type"):
            return "an optional value"
        if kind not in DTYPES:
            return f"element type {TensorProto.DataType.Name(kind).lower()}"
    return ""


def tensors(value: Any) -> Any:
    """Return what a case holds as the importer would read it."""
    if isinstance(value, list):
        return [tensors(item) for item in value]
    proto = value if isinstance(value, TensorProto) else numpy_helper.from_array(np.asarray(value))
    return tensor_of(proto)


@dataclass(frozen=True)
class Prepared:
    """A case ready to run: its graph, what is known when it is traced, and the one input that stands for the clip."""

    graph: Graph
    known: dict[str, Any]
    live: str
    clip: torch.Tensor
    outputs: tuple[tuple[str, Any], ...]

    def module(self, output: str) -> OnnxModule:
        """Return the module that computes one output from the clip."""
        single = Graph(self.graph.nodes, {**self.graph.constants, **self.known}, (self.live,), (output,))
        module = OnnxModule(single, NOTHING)
        module.batch_statistics = any(node.attributes.get("training_mode") for node in self.graph.nodes)
        return module


def prepare(name: str, read: set[tuple[str, str]] | None = None) -> Prepared:
    """Return a case as a model would hold it: the first float tensor is the clip, everything else is constant.

    `read`, if given, collects (operator, attribute) for every attribute that anything looks at.
    """
    case = all_cases()[name]
    graph = read_graph(case.model)
    if read is not None:
        graph = replace(graph, nodes=tuple(_watched(node, read) for node in graph.nodes))
    given, expected = case.data_sets[0]
    names = [v.name for v in case.model.graph.input]
    inputs = {k: tensors(v) for k, v in zip(names, given, strict=False) if v is not None}
    # A number on its own (a limit, a count) is no clip.
    floats = [k for k, v in inputs.items() if isinstance(v, torch.Tensor) and v.is_floating_point() and v.dim()]
    live = next(iter(floats), "")
    outputs = [
        (declared.name, tensors(value)) for declared, value in zip(case.model.graph.output, expected, strict=True)
    ]
    known = {k: v for k, v in inputs.items() if k != live}
    return Prepared(graph, known, live, inputs.get(live, torch.zeros(1)), tuple(outputs))


def check(name: str, read: set[tuple[str, str]] | None = None) -> None:
    """Raise AssertionError unless every output of a case is what onnx says it is."""
    prepared = prepare(name, read)
    for output, theirs in prepared.outputs:
        ours = prepared.module(output)(prepared.clip)
        pairs = zip(ours, theirs, strict=True) if isinstance(theirs, list) else [(ours, theirs)]
        for a, b in pairs:
            assert tuple(a.shape) == tuple(b.shape)
            rtol, atol = (2e-2, 5e-3) if any(part in name for part in HALF) else (1e-3, 1e-5)
            torch.testing.assert_close(a.to(b.dtype), b, rtol=rtol, atol=atol, equal_nan=True)


class _Watched(dict[str, Any]):
    """Attributes that remember who looked."""

    def __init__(self, values: Mapping[str, Any], operator: str, read: set[tuple[str, str]]) -> None:
        super().__init__(values)
        self.operator, self.read = operator, read

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add((self.operator, key))
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self.read.add((self.operator, key))
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.read.add((self.operator, str(key)))
        return super().__contains__(key)


def _watched(node: Node, read: set[tuple[str, str]]) -> Node:
    return replace(node, attributes=_Watched(node.attributes, node.operator, read))


def names_by_operator() -> Iterator[tuple[tuple[str, str], tuple[str, ...]]]:
    """Yield every operator with the cases that are about it, in order of names."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in all_cases():
        for key in subject(name):
            found.setdefault(key, []).append(name)
    yield from ((key, tuple(sorted(names))) for key, names in sorted(found.items()))
