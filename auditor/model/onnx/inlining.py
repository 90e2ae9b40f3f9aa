"""Local functions of a file, put in the place of their calls after counting what comes of it.

Forty functions that call one another twice each stand for a million million nodes.
"""

from collections.abc import Iterable, Iterator

import onnx.inliner
from onnx import FunctionProto, ModelProto, NodeProto

from auditor.errors import NotAuditable
from auditor.text import printable

MOST_NODES = 200_000
MOST_BYTES = 2**30
REMEDY = "export the model without local functions"
Key = tuple[str, str, str]


def inlined(model: ModelProto) -> ModelProto:
    """Return a model without local functions.

    Raises
    ------
    NotAuditable
        Two functions have one name, a function calls itself, or more would come of them than any model has.
    """
    if not model.functions:
        return model
    functions: dict[Key, FunctionProto] = {}
    for function in model.functions:
        key = (function.domain, function.name, function.overload)
        if key in functions:
            raise NotAuditable(f"two local functions are called '{printable(function.name)}'", REMEDY)
        functions[key] = function
    sizes = _sizes(functions)
    nodes, size = _total(model.graph.node, functions, sizes)
    if nodes > MOST_NODES or size > MOST_BYTES:
        raise NotAuditable(
            f"local functions stand for {nodes:.1e} nodes and {size:.1e} bytes (at most {MOST_NODES:.1e} and "
            f"{MOST_BYTES:.1e})" if nodes < 10**300 else "local functions stand for endlessly many nodes",
            REMEDY,
        )  # fmt: skip
    return onnx.inliner.inline_local_functions(model)


def _sizes(functions: dict[Key, FunctionProto]) -> dict[Key, tuple[int, int]]:
    """Return how many nodes and bytes one call of each function stands for, callees before callers."""
    sizes: dict[Key, tuple[int, int]] = {}
    called = {key: {_key(node) for node in _all(f.node)} & functions.keys() for key, f in functions.items()}
    open_calls: list[Key] = list(functions)
    entered: set[Key] = set()
    while open_calls:
        key = open_calls[-1]
        missing = [callee for callee in called[key] if callee not in sizes]
        if key in sizes or not missing:
            sizes[key] = sizes.get(key) or _total(functions[key].node, functions, sizes)
            open_calls.pop()
        elif key in entered:
            raise NotAuditable(f"the local function '{printable(key[1])}' calls itself", REMEDY)
        else:
            entered.add(key)
            open_calls += missing
    return sizes


def _total(
    nodes: Iterable[NodeProto], functions: dict[Key, FunctionProto], sizes: dict[Key, tuple[int, int]]
) -> tuple[int, int]:
    count = size = 0
    for node in _all(nodes):
        inner = sizes[_key(node)] if _key(node) in functions else (0, 0)
        count, size = count + 1 + inner[0], size + node.ByteSize() + inner[1]
    return count, size


def _all(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """Yield nodes and those of the graphs inside them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _all(graph.node)


def _key(node: NodeProto) -> Key:
    return node.domain, node.op_type, node.overload
