"""Constants that hold the numbers of a named parameter once more, in another shape: they are that parameter.

The TorchScript exporter computes reshapes and transposes in advance and keeps the parameter beside the result where it
is read elsewhere too: an embedding that serves as the last layer, the weight whose norm spectral normalisation takes.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from auditor.model.onnx.graph import Graph, Node
from auditor.model.onnx.parameters.constants import COMPUTED_BY_TORCHSCRIPT, INVENTED, SPELLED, is_uniform
from auditor.text import printable

FEWEST = 8  # fewer equal numbers may be chance
SHOWN = 3


def copies_joined(graph: Graph) -> tuple[Graph, tuple[str, ...]]:
    """Return the graph with such constants computed from the parameter, and sentences for the report."""
    named = [name for name in graph.initializers if SPELLED.match(name) and not INVENTED.match(name)]
    sizes: dict[int, list[str]] = {}
    for name in sorted(named):
        if _is_weight(graph.constants[name]):
            sizes.setdefault(graph.constants[name].numel(), []).append(name)
    constants, nodes, joined = dict(graph.constants), [], []
    for name in sorted(graph.initializers):
        if not COMPUTED_BY_TORCHSCRIPT.match(name) or not _is_weight(graph.constants[name]):
            continue
        value = graph.constants[name]
        for source in sizes.get(value.numel(), ()):
            order = next(_orders(graph.constants[source], value), None)
            if order is None:
                continue
            shape, moved = f"{name} (shape)", f"{name} (axes)"
            constants[shape] = torch.tensor(value.shape)
            del constants[name]
            nodes += [
                Node("Transpose", (source,), (moved,), {"perm": order}),
                Node("Reshape", (moved, shape), (name,)),
            ]
            joined.append(f"'{printable(name, 60)}' is '{printable(source, 60)}'")
            break
    if not joined:
        return graph, ()
    more = f" and {len(joined) - SHOWN} more" if len(joined) > SHOWN else ""
    note = f"{', '.join(joined[:SHOWN])}{more} in another shape, by its numbers: one parameter with one gradient."
    left = graph.initializers & constants.keys()
    return replace(graph, nodes=(*nodes, *graph.nodes), constants=constants, initializers=left), (note,)


def _is_weight(value: Tensor) -> bool:
    return value.is_floating_point() and value.dim() > 1 and value.numel() >= FEWEST and not is_uniform(value)


def _orders(source: Tensor, value: Tensor) -> Iterator[tuple[int, ...]]:
    """Yield the orders of axes in which a parameter has the numbers of a constant, row by row."""
    axes = tuple(range(source.dim()))
    for first in axes:  # as it is, or one axis first
        order = (first, *(axis for axis in axes if axis != first))
        if torch.equal(source.permute(order).reshape(value.shape), value):
            yield order
