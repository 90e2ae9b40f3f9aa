"""One part of a two-part model, read from its source: a network whose input and output may have any shape."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from onnx import ModelProto
from torch import Tensor, nn

from auditor.errors import UsageError
from auditor.model.checks.parity import runtime
from auditor.model.double_backward import swap_modules
from auditor.model.onnx.custom_operators import read_operators
from auditor.model.onnx.from_onnx import compare, declared_input, file_fidelity, understood, witnessed
from auditor.model.onnx.frozen_batch import in_parts
from auditor.model.onnx.graph import Graph, operator_counts
from auditor.model.onnx.interpreter import OnnxModule
from auditor.model.onnx.operators import OPERATORS
from auditor.model.onnx.tracing import NodeError
from auditor.model.pytorch.built import class_counts, digest
from auditor.model.pytorch.from_pytorch import check_parameters, input_of, open_pytorch
from auditor.model.reading_options import LoadOptions
from auditor.model.sandbox.onnx_file import OnnxFile
from auditor.model.two_part import EXTRACTOR
from auditor.records import Fidelity, InputSpec, ModelPart, record
from auditor.text import printable

Role = Literal["extractor", "head"]
# Where the libraries of architectures keep what turns features into classes.
CLASSIFIERS = ("fc", "classifier", "head", "heads")


@record
class Part:
    """A network and what is known about it before it has run.

    Attributes
    ----------
    spec
        What an extractor reads; None for a head, which reads features.
    reads
        The shape that a head declares for its input, without batch, None for open extents; None where it says nothing.
    frozen
        Names of parameters that the source itself keeps from training.
    file, graph, fixed
        For ONNX: the file, its graph, and the batch size that it fixes (None if it leaves the batch open).
    """

    role: Role
    source: str
    format: str
    name: str
    sha256: str
    network: nn.Module
    operators: Mapping[str, int]
    fidelity: Fidelity
    spec: InputSpec | None = None
    reads: tuple[int | None, ...] | None = None
    frozen: tuple[str, ...] = ()
    file: OnnxFile | None = None
    graph: Graph | None = None
    fixed: int | None = None

    def described(self) -> ModelPart:
        """Return what the results say about it."""
        parameters = list(self.network.parameters())
        return ModelPart(
            role=self.role,
            name=self.name,
            source=self.source,
            format=self.format,
            sha256=self.sha256,
            tensors=len(parameters),
            elements=sum(parameter.numel() for parameter in parameters),
            fidelity=self.fidelity,
        )


def onnx_part(path: Path, role: Role, options: LoadOptions) -> Part:
    """Read a part from an ONNX file.

    Raises
    ------
    UsageError, NotAuditable
        See `loading.load`.
    """
    operators = {**OPERATORS, **read_operators(options.onnx_ops)}
    file, graph, found, told = understood(path, operators, options.model_output if role != EXTRACTOR else None)
    spec = reads = None
    if role == EXTRACTOR:
        shape, fixed, layout = declared_input(file.model, options)
        spec = options.spec(shape, "read from the extractor's file", layout=layout)
    else:
        fixed, reads = _declared(file.model)
    notes = [*told, *found.notes]
    if file.precisions:
        notes.insert(0, f"Weights in {', '.join(file.precisions)} were converted to float32.")
    return Part(
        role=role,
        source=printable(str(path), 500),
        format="onnx",
        name=printable(path.stem),
        sha256=file.sha256,
        network=OnnxModule(graph, found, fixed, operators).eval(),
        operators=operator_counts(graph),
        fidelity=replace(_UNCHECKED, notes=tuple(notes), unaccounted=found.unaccounted),
        spec=spec,
        reads=reads,
        file=file,
        graph=graph,
        fixed=fixed,
    )


_UNCHECKED = Fidelity(
    parity_max_error=None, gradient_check=None, double_backward=False, batchnorm="none", batch="dynamic"
)


def _declared(model: ModelProto) -> tuple[int | None, tuple[int | None, ...] | None]:
    """Return the batch size that a file fixes, and the rest of the shape that it declares for its input."""
    initializers = {tensor.name for tensor in model.graph.initializer}
    value = next(value for value in model.graph.input if value.name not in initializers)
    dims = value.type.tensor_type.shape.dim
    known = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in dims]
    return (known[0], tuple(known[1:])) if known else (None, None)


def pytorch_part(source: str, form: str, weights: Path | None, role: Role, options: LoadOptions) -> Part:
    """Read a part from a factory or a library of architectures.

    Raises
    ------
    UsageError, NotAuditable
        See `loading.load`.
    """
    opened = open_pytorch(source, form, weights, replace(options, classes=None) if role == EXTRACTOR else options)
    built, network, notes = opened.built, opened.network, opened.notes
    if role == EXTRACTOR and form != "pytorch":
        notes = (*notes, _without_classifier(network))
    if any(True for _ in network.parameters()) or role != EXTRACTOR:
        check_parameters(network)
    swap_modules(network)
    spec = input_of(built, source, options)[1] if role == EXTRACTOR else None
    norms = sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    return Part(
        role=role,
        source=printable(source, 500),
        format=form,
        name=built.name,
        sha256=digest(network.state_dict()),
        network=network,
        operators=class_counts(network),
        fidelity=replace(
            _UNCHECKED,
            batchnorm="kept" if norms else "none",
            notes=notes,
            origin="PyTorch module, run as it is",
            batchnorm_evidence=f"{norms or 'no'} BatchNorm module{'' if norms == 1 else 's'}",
        ),
        spec=spec,
        reads=built.shape if role != EXTRACTOR else None,
        frozen=opened.frozen,
    )


def _without_classifier(network: nn.Module) -> str:
    """Replace what turns features into classes by nothing, and say so.

    Raises
    ------
    UsageError
        It is not where libraries keep it.
    """
    name = next((name for name in CLASSIFIERS if isinstance(getattr(network, name, None), nn.Module)), None)
    if name is None:
        raise UsageError(
            f"the classifier of {printable(type(network).__name__)} was not found",
            f"write a factory that returns it without (it is not called {', '.join(CLASSIFIERS)})",
        )
    setattr(network, name, nn.Identity())
    return f"The classifier '{name}' was taken off: the extractor returns what it read."


def settle(part: Part, singles: Sequence[Tensor], both: Tensor) -> Part:
    """Compare an ONNX part with ONNX Runtime on two inputs, and settle how it runs batches.

    `singles` are two inputs, each with its batch axis, `both` the same as one batch. A PyTorch part stays as it is.

    Raises
    ------
    NotAuditable
        The outputs differ.
    """
    module, told = part.network, part.fidelity.notes
    if not isinstance(module, OnnxModule):
        return part
    assert part.file is not None
    assert part.graph is not None
    if part.fixed is not None and part.fixed > 1:
        module.clip_by_clip = not _runs(module, singles[0])
    theirs = witnessed(part.file.model, singles, module.traced_batch)
    parity, batch, notes = compare(theirs, module, singles, both, bool(part.file.precisions))
    found = file_fidelity(part.file.model, part.graph, tuple(singles[0].shape[1:]), parity, batch, [])
    if part.role == EXTRACTOR:
        # Nobody trains it: what was merged into its weights changes no gradient that is sent.
        found = replace(found, upper_bound=False, notes=(), reexport="")
    return replace(part, fidelity=replace(found, notes=(*told, *notes, *found.notes)))


def _runs(module: nn.Module, x: Tensor) -> bool:
    try:
        with torch.no_grad():
            module(x)
    except (NodeError, RuntimeError):
        return False
    return True


def witness(part: Part) -> Callable[[Tensor], Tensor]:
    """Return a function that computes a part by other means: ONNX Runtime for ONNX, the module itself for PyTorch.

    Raises
    ------
    NoRuntimeError
        ONNX Runtime is absent or refuses the file.
    """
    if part.file is None:
        return part.network
    run = runtime(part.file.model)
    return lambda x: in_parts(run, x, part.fixed or x.shape[0])
