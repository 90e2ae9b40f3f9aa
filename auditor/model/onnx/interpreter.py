"""An ONNX graph as a torch module: traced once per input shape into a flat plan, then run thousands of times.

Everything that depends on shapes and constants alone (the arithmetic that exporters write around every Reshape, the
conditions of If, the counts of Loop) is computed while tracing; the plan holds only what depends on the clip or on a
parameter. Every function in it is differentiable twice.
"""

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from auditor.model.onnx.frozen_batch import Moved, in_parts
from auditor.model.onnx.graph import Graph, Node, dropped
from auditor.model.onnx.operators import OPERATORS, Function, Operators
from auditor.model.onnx.parameters.trainable_constants import Roles
from auditor.model.onnx.plan import Plan
from auditor.model.onnx.tracing import Tracer
from auditor.records import NormInput, random_state_kept

DEEPEST_NAME = 64  # torch walks nested modules by recursion


class _Names(nn.Module):
    """One part of a dotted name: holds tensors, has no mode."""

    def train(self, mode: bool = True) -> "_Names":
        """Do nothing, because `training` may be the name of a tensor."""
        return self


class OnnxModule(nn.Module):
    """The network of an ONNX file, with parameters under the names that the file gives them.

    Parameters
    ----------
    graph, roles
        The decoded graph, and which of its constants are parameters and statistics.
    traced_batch
        The batch size that the file fixes, or None when it leaves the batch open. Where constants of the graph hold
        that size, other batch sizes are read from what the same node did at the traced size.
    operators
        What the nodes mean: ours, and those that a user added.
    """

    def __init__(
        self, graph: Graph, roles: Roles, traced_batch: int | None = None, operators: Operators = OPERATORS
    ) -> None:
        super().__init__()
        self.operators = operators
        self.graph = graph
        self.readers = roles.readers
        self.traced_batch = traced_batch
        self.clip_by_clip = False
        self.batch_statistics = False
        self.drop = False
        self.drops = sum(dropped(node, graph) > 0 for node in graph.walk())
        self.norm_inputs: list[NormInput] | None = None  # filled while somebody collects statistics
        self._norms = Counter(
            node.inputs[3] for node in graph.walk() if node.operator == "BatchNormalization" and len(node.inputs) > 3
        )
        graphs = [graph, *(inner for node in graph.walk() for inner in node.subgraphs())]
        weights = sum(
            value.numel() for inner in graphs for value in inner.constants.values() if isinstance(value, Tensor)
        )
        self.extent = weights, sum(len(inner.nodes) for inner in graphs)
        self._plans: dict[Any, Plan] = {}
        self._reference: list[Moved] | None = None  # what every Reshape did at the traced batch
        self.slots: list[tuple[str, dict[str, Any], str]] = []
        for name, value in roles.parameters.items():
            self._keep(name, nn.Parameter(value))  # not a copy: a graph makes one module, and weights are large
        for name, value in roles.statistics.items():
            self._keep(name, value.clone())

    def _keep(self, name: str, value: Tensor) -> None:
        """Register a tensor so that `named_parameters` spells it as the file does, dots included."""
        owner: nn.Module = self
        parts = name.split(".", DEEPEST_NAME + 1)
        *path, leaf = parts if all(parts) and len(parts) <= DEEPEST_NAME else [name]
        if not path and leaf == "training":  # assigned by nn.Module.train, so it must not be a parameter of this module
            path = [""]
        for part in path:
            # Written straight into the tables: a file may use any name, also one that nn.Module has for itself.
            child = owner._modules.setdefault(part, _Names())
            assert child is not None
            owner = child
        table: dict[str, Any] = owner._parameters if isinstance(value, nn.Parameter) else owner._buffers
        table[leaf] = value
        self.slots.append((name, table, leaf))

    def __deepcopy__(self, memo: dict[int, Any]) -> "OnnxModule":
        roles = Roles(
            {
                name: table[leaf].detach().clone()
                for name, table, leaf in self.slots
                if isinstance(table[leaf], nn.Parameter)
            },
            {name: table[leaf] for name, table, leaf in self.slots if not isinstance(table[leaf], nn.Parameter)},
            self.readers,
        )
        copy = OnnxModule(self.graph, roles, self.traced_batch, self.operators)
        copy.clip_by_clip, copy.batch_statistics = self.clip_by_clip, self.batch_statistics
        copy.drop = self.drop
        for own, theirs in zip(copy.parameters(), self.parameters(), strict=True):
            own.requires_grad_(theirs.requires_grad)
        return copy

    def noted(self, node: Node, normalise: Function) -> Function:
        """Return a batch normalisation that also notes what it reads, while somebody collects statistics."""
        mean_name, variance_name = node.inputs[3:5]
        if self._norms[mean_name] > 1:  # exporters merge equal initializers, but every layer has buffers of its own
            mean_name, variance_name = (f"{name} ({node.outputs[0]})" for name in node.inputs[3:5])
        # In the operator's definition momentum weighs the old value, and the variance counts n values.
        rate = 1.0 - float(node.attributes.get("momentum", 0.9))

        def run(x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> Any:
            if self.norm_inputs is not None:
                self.norm_inputs.append(
                    NormInput(
                        site=node.outputs[0],
                        mean=mean_name,
                        variance=variance_name,
                        old_mean=mean,
                        old_variance=variance,
                        rate=rate,
                        unbiased=False,
                        input=x,
                    )
                )
            return normalise(x, scale, shift, mean, variance)

        return run

    def forget(self) -> None:
        """Drop every plan, because a setting that plans depend on has changed."""
        self._plans.clear()
        self._reference = None

    def forward(self, x: Tensor) -> Any:
        """Run the graph on one batch in the file's own layout."""
        size = self.traced_batch
        if self.clip_by_clip and size and x.shape[0] != size:
            return in_parts(self._run, x, size)
        return self._run(x)

    def _run(self, x: Tensor) -> Any:
        key = (x.shape, x.dtype, x.device, self.batch_statistics, self.drop)
        plan = self._plans.get(key)
        if plan is None:
            # Tracing runs the graph once more: that must neither be noted nor cost the masks about to be drawn.
            noted, self.norm_inputs = self.norm_inputs, None
            with random_state_kept(x.device, enabled=self.drop):
                plan, result = self._trace(x)
            self._plans[key] = plan
            self.norm_inputs = noted
            if not torch.is_grad_enabled() and noted is None:
                return result
        return plan.run(x, (table[leaf] for _, table, leaf in self.slots))

    def _trace(self, x: Tensor) -> tuple[Plan, Any]:
        size, x = self.traced_batch, x.detach()
        if size is None or self.clip_by_clip:
            return Tracer(self, x, None).plan()
        if x.shape[0] != size and self._reference is None:
            self._trace(x[:1].expand(size, *x.shape[1:]))
        tracer = Tracer(self, x, None if x.shape[0] == size else self._reference)
        traced = tracer.plan()
        if x.shape[0] == size:
            self._reference = tracer.reshapes
        return traced
