"""ONNX's own node cases for every operator of the importer, in every operator set that they come in."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
import pytest
import torch
from onnx import numpy_helper

from auditor.errors import NotAuditable
from auditor.model.graph import Graph, read_graph, tensor_of
from auditor.model.interpreter import CONTROL, OnnxModule
from auditor.model.operators import OPERATORS
from auditor.model.trainable import Roles

FOLDER = Path(onnx.backend.test.__file__).parent / "data" / "node"
KNOWN = {name for domain, name in OPERATORS if not domain} | {*CONTROL, "Constant"}

# Cases that are left out, by what their name contains, and why.
EXCLUDED: dict[str, str] = {}


def operators_of(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in model.graph.node}


def cases() -> list[str]:
    """Names of all node cases whose operators the importer has and whose values are floats, integers or booleans."""
    found = []
    for folder in sorted(FOLDER.iterdir()):
        path = folder / "model.onnx"
        if not path.exists() or any(part in folder.name for part in EXCLUDED):
            continue
        model = onnx.load(path)
        if operators_of(model) <= KNOWN and not any(node.domain for node in model.graph.node):
            found.append(folder.name)
    return found


def value_of(path: Path, declared: onnx.ValueInfoProto) -> object:
    content = path.read_bytes()
    if declared.type.HasField("sequence_type"):
        sequence = onnx.SequenceProto.FromString(content)
        return [tensor_of(tensor) for tensor in sequence.tensor_values]
    return tensor_of(onnx.TensorProto.FromString(content))


CASES = cases()


def test_most_cases_are_covered() -> None:
    assert len(CASES) > 800


@pytest.mark.parametrize("name", CASES)
def test_node_case(name: str) -> None:
    model = onnx.load(FOLDER / name / "model.onnx")
    graph = read_graph(model)
    data = FOLDER / name / "test_data_set_0"
    inputs = {v.name: value_of(data / f"input_{i}.pb", v) for i, v in enumerate(model.graph.input)}
    floats = [k for k, v in inputs.items() if isinstance(v, torch.Tensor) and v.is_floating_point()]
    # As in a model: one input is the clip, everything else is known when the graph is traced.
    live = next(iter(floats), next(iter(inputs), ""))
    constants = {**graph.constants, **{k: v for k, v in inputs.items() if k != live}}
    entry = inputs.get(live, torch.zeros(1))
    for position, declared in enumerate(model.graph.output):
        expected = value_of(data / f"output_{position}.pb", declared)
        single = Graph(graph.nodes, constants, (live,), (declared.name,))
        if isinstance(entry, torch.Tensor) and entry.dtype in (torch.float32,):
            ours = OnnxModule(single, Roles({}, {}, {}))(entry)
        else:
            ours = OnnxModule(replace(single, constants={**constants, live: entry}, inputs=("",)), Roles({}, {}, {}))(
                torch.zeros(1)
            )
        for a, b in zip(*((v if isinstance(v, list) else [v]) for v in (ours, expected)), strict=True):
            assert tuple(a.shape) == tuple(b.shape)
            torch.testing.assert_close(a.to(b.dtype), b, rtol=1e-3, atol=1e-5, equal_nan=True)
