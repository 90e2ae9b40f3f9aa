"""Programs that torch.export saved (.pt2): reading one can run code, so only where the user trusts it."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from auditor.errors import NotAuditable
from auditor.model.checks.parity import TOLERANCE, difference
from auditor.model.double_backward import distances
from auditor.model.onnx.frozen_batch import in_parts
from auditor.model.onnx.operators.activation import hard_sigmoid, hard_swish
from auditor.model.pytorch.built import Built
from auditor.model.pytorch.inner import Archived
from auditor.model.sandbox.user_file import in_a_line
from auditor.text import printable

# Positions among the arguments of aten::batch_norm and aten::dropout.
TRAINING, MOMENTUM, DROP = 5, 6, 2
FUSED_NORMS = (
    "_native_batch_norm_legit", "native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm",
)  # fmt: skip
# The same functions written with operations that have second derivatives.
TWICE: dict[str, Callable[..., Tensor]] = {
    "hardsigmoid": hard_sigmoid,
    "hardsigmoid_": hard_sigmoid,
    "hardswish": hard_swish,
    "hardswish_": hard_swish,
    "cdist": distances,
    "_cdist_forward": distances,
}


class ExportedNetwork(Archived):
    """An exported program, with a switch for BatchNorm.

    A program has no modes of its own: what differs between training and evaluation is written into its operations.
    """

    def forward(self, x: Tensor) -> Any:
        """Return what the program returns."""
        return self.inner(x) if self.parts is None else in_parts(self.inner, x, self.parts)

    def train(self, mode: bool = True) -> "ExportedNetwork":
        """Remember the mode: an exported program takes none."""
        self.training = mode
        return self

    @property
    def batch_statistics(self) -> bool:
        """Whether BatchNorm uses the statistics of the batch."""
        return any(node.args[TRAINING] for node in self._norms())

    @batch_statistics.setter
    def batch_statistics(self, wanted: bool) -> None:
        program: Any = self.inner
        norms = self._norms()
        if all(node.args[TRAINING] == wanted and node.args[MOMENTUM] == 0.0 for node in norms):
            return
        for node in norms:
            node.update_arg(TRAINING, wanted)
            node.update_arg(MOMENTUM, 0.0)  # running statistics never change
        program.recompile()

    def _norms(self) -> list[Any]:
        program: Any = self.inner
        return [node for node in program.graph.nodes if _operator(node) == "batch_norm"]


def from_exported(path: Path) -> Built:
    """Read an exported program. It can run code.

    Raises
    ------
    NotAuditable
        It cannot be read, or reads more than one clip.
    """
    shown = printable(path.name)
    try:
        program = torch.export.load(path)
        module = program.module(check_guards=False)
        module._forward_pre_hooks.clear()  # they compare the input's shape with that of the example
    except Exception as error:
        raise NotAuditable(
            f"{shown} cannot be read as a torch.export program ({in_a_line(error)})", "export it with this torch"
        ) from error
    inputs = _clip_inputs(program)
    if len(inputs) != 1:
        raise NotAuditable(f"{shown} reads {len(inputs)} inputs", "export a model that reads one clip and nothing else")
    extents = inputs[0].shape
    notes = _rewritten(module)
    fixed = next((_operator(n) for n in module.graph.nodes if _operator(n) in FUSED_NORMS), "")
    switchable = any(_operator(node) == "batch_norm" for node in module.graph.nodes)
    network = ExportedNetwork(module)
    network.batch_statistics = False
    if fixed:
        network.switchable = False
        notes.append(f"BatchNorm stays in the mode it was exported in ({fixed}): --bn cannot switch it.")
    shape = tuple(extents[1:]) if all(isinstance(extent, int) for extent in extents[1:]) else None
    batch, told = _batch(network, extents)
    return Built(
        network,
        printable(path.stem),
        shape,
        origin="read from the exported program",
        batch=batch,
        batchnorm="fixed" if fixed else "kept" if switchable else "none",
        operators=_operators(program.graph),
        evidence=f"operation {fixed} in the program" if fixed else "operations of the exported program",
        notes=(
            "The operations are those of the exported program: checks that Python made before tracing are gone.",
            *notes,
            *told,
        ),
    )


def _operator(node: Any) -> str:
    packet = getattr(node.target, "overloadpacket", None) if node.op == "call_function" else None
    return getattr(packet, "__name__", "")


def _operators(graph: Any) -> dict[str, int]:
    names = (str(node.target) for node in graph.nodes if _operator(node))
    return {printable(name): count for name, count in Counter(names).most_common()}


def _clip_inputs(program: Any) -> list[Tensor]:
    names = set(program.graph_signature.user_inputs)
    return [n.meta["val"] for n in program.graph.nodes if n.op == "placeholder" and n.name in names and "val" in n.meta]


def _rewritten(module: Any) -> list[str]:
    """Switch dropout off, leave batches uncounted, and replace operations that have no second derivative."""
    graph, notes = module.graph, []
    dropped = 0
    for node in list(graph.nodes):
        name = _operator(node)
        if name in ("dropout", "dropout_", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"):
            if len(node.args) > DROP and node.args[DROP]:
                node.update_arg(DROP, False)
                dropped += 1
        elif name in TWICE:
            node.target = TWICE[name]
        elif name == "add_" and str(getattr(node.args[0], "target", "")).endswith("num_batches_tracked"):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    module.recompile()
    if dropped:
        notes.append(f"The program was exported in training mode; its dropout ({dropped}x) was switched off.")
    return notes


def _batch(network: ExportedNetwork, extents: Any) -> tuple[str, tuple[str, ...]]:
    """Settle how batches run where the program fixes theirs: at once if that changes nothing, else in parts."""
    size = extents[0]
    if not isinstance(size, int) or not all(isinstance(extent, int) for extent in extents):
        return "dynamic", ()
    x = torch.rand(2 * size + 1, *extents[1:], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        apart = in_parts(network.inner, x, size)
        try:
            together = network.inner(x)
            one = network.inner(x[:1])
        except (RuntimeError, AssertionError, ValueError):
            together = one = None
    if (
        isinstance(together, Tensor)
        and together.shape == apart.shape
        and max(difference(together, apart), difference(one, apart[:1])) <= TOLERANCE
    ):
        return "unfrozen", ()
    network.parts = size
    return f"frozen at {size}", (
        f"The program works for a batch of {size} only: batches run in parts of {size}, which is exact with running "
        "statistics; with batch statistics every part has its own. Export with a dynamic batch to avoid that.",
    )
