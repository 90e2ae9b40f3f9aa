"""Watching a forward pass to see which operation reads which parameter.

Two colours are followed through the dispatcher, by storage: what depends on the clip, and what is made of parameters
alone (views, transposes, concatenations, table lookups). The operation where the two meet reads the parameter. This
needs no list of layer types, so it holds for PyTorch models and imported graphs alike.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from auditor.model.forward_constants import ForwardConstant, ForwardConstants
from auditor.model.long_attention import scores_between
from auditor.records import Convolution

# Operations that take a tensor for its shape only.
BLANK = frozenset(
    f"aten::{name}"
    for name in ("new_zeros", "new_ones", "new_full", "new_empty", "zeros_like", "ones_like", "full_like", "empty_like")
)


# Attention that keeps no scores.
FUSED = frozenset(
    f"aten::_scaled_dot_product_{kernel}_attention{device}"
    for kernel, device in (("flash", ""), ("flash", "_for_cpu"), ("efficient", ""), ("cudnn", ""))
)
HALVES = (torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2)
PRODUCTS = frozenset({"aten::bmm", "aten::baddbmm", "aten::matmul"})
ELEMENTWISE = frozenset(
    f"aten::{name}" for name in ("add", "add_", "sub", "mul", "mul_", "div", "div_", "clone", "masked_fill", "where")
)


# What brings weights and clip together by more than their places: products, convolutions, recurrent layers.
MULTIPLIES = ("mm", "mv", "convolution", "linear", "lstm", "gru", "rnn", "attention", "einsum")
# A normalisation of colours that a network makes itself multiplies by at most this many numbers.
NORMALISES = 64


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """One operation that combines parameters with the clip.

    Attributes
    ----------
    operator
        As the dispatcher spells it, e.g. aten::convolution.
    weights
        The operands that are made of parameters, with the names of those parameters.
    input
        The largest operand that depends on the clip.
    weight_first
        True when a matrix of parameters stands to the left of the input.
    on_scores
        True when the input is a product of two values that both depend on the clip, as attention scores are.
    version
        How often the input had been written to in place before.
    convolution
        How the kernel walks, where it is a convolution.
    behind_weights
        Whether a product with other parameters lies between the clip and the input.
    number, operand
        Which operation of the pass it is, and which of its tensors the input is, from 0.
    """

    operator: str
    weights: tuple[tuple[Tensor, tuple[str, ...]], ...]
    input: Tensor
    output: Tensor
    weight_first: bool = False
    on_scores: bool = False
    version: int = 0
    convolution: Convolution | None = None
    behind_weights: bool = False
    number: int = 0
    operand: int = 0

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that it reads, each once."""
        return tuple(dict.fromkeys(name for _, names in self.weights for name in names))


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What one forward pass did.

    Attributes
    ----------
    operations
        Floating-point ones of convolutions and matrix products.
    scores
        Bytes of attention scores that the pass did not keep for its gradient.
    constants
        What it brings to the clip and the network does not own.
    halves
        In which types of 16 or 8 bits it computes something of the clip.
    """

    readings: tuple[Reading, ...]
    operators: frozenset[str]
    output: Any
    operations: int = 0
    scores: int = 0
    constants: tuple[ForwardConstant, ...] = ()
    halves: frozenset[str] = frozenset()


def observe(
    model: nn.Module,
    clips: Tensor,
    run: Callable[[Tensor], Any] | None = None,
    *,
    slopes: bool = True,
    own: Iterable[Tensor] | None = None,
) -> Observation:
    """Run a model once and watch it; with `slopes`, gradients stay attached to what the readings hold.

    `run` is what is called with the clips; None calls the model. `own` are constants that are known, beside parameters,
    buffers and the clips; where it is None, constants are not looked for.
    """
    parameters: dict[str, Tensor] = dict(model.named_parameters())
    watcher = _Watcher(parameters, clips)
    if own is not None:
        watcher.constants = ForwardConstants((*parameters.values(), *model.buffers(), clips, *own))
    with torch.set_grad_enabled(slopes), watcher:
        output = (run or model)(clips)
    return Observation(
        tuple(watcher.readings),
        frozenset(watcher.operators),
        output,
        watcher.operations,
        watcher.scores_not_kept,
        () if watcher.constants is None else watcher.constants.met,
        frozenset(watcher.halves),
    )


class _Seen(BaseException):
    """The operation that was waited for has run."""


def first_input(model: nn.Module, parameter: str | None, clips: Tensor) -> Tensor | None:
    """Return the input of the first operation that reads `parameter`, detached; the network runs no further than that.

    With None, of the first that reads any. None if no operation that the clips reach reads it.
    """
    seen = first_reading(model, parameter, clips)
    return None if seen is None else seen.input.detach()


def first_reading(model: nn.Module, parameter: str | None, clips: Tensor, after: int = 0) -> Reading | None:
    """Return the first operation that reads `parameter`, without a graph, or one `after` it; as `first_input`."""
    parameters: dict[str, Tensor] = dict(model.named_parameters())
    watcher = _Watcher(parameters, clips, frozenset(parameters if parameter is None else [parameter]), after)
    try:
        with torch.no_grad(), watcher:
            model(clips)
    except (_Seen, RuntimeError):  # TorchScript turns whatever is raised inside it into a RuntimeError
        if not watcher.found:
            raise
    return watcher.readings[-1] if watcher.found else None


@dataclass(slots=True)
class _Colour:
    """Storages of one colour, weakly referenced: their addresses stay theirs, what they hold may go."""

    held: dict[int, tuple[StorageWeakRef, tuple[str, ...]]] = field(default_factory=dict)

    def add(self, tensor: Tensor, names: tuple[str, ...] = ()) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.held:
            self.held[storage._cdata] = (StorageWeakRef(storage), names)  # type: ignore[no-untyped-call]
        elif names:
            reference, before = self.held[storage._cdata]
            self.held[storage._cdata] = (reference, tuple(dict.fromkeys((*before, *names))))

    def __contains__(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self.held


class _Watcher(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(
        self, parameters: dict[str, Tensor], clips: Tensor, until: frozenset[str] = frozenset(), after: int = 0
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.until, self.after = until, after
        self.found = False  # the operation waited for has run
        self.readings: list[Reading] = []
        self.operators: set[str] = set()
        self.constants: ForwardConstants | None = None
        self.halves: set[str] = set()
        self.operations = self.scores_not_kept = 0
        self.number = -1
        self.clip = _Colour()
        self.clip.add(clips)
        self.scores = _Colour()
        self.features = _Colour()
        self.made = _Colour()
        # Several parameters may share a storage (flattened recurrent weights): their extents tell them apart.
        self.extents: dict[int, list[tuple[int, int, str]]] = {}
        for name, value in parameters.items():
            self.made.add(value)
            self.extents.setdefault(value.untyped_storage()._cdata, []).append((*_extent(value), name))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: skipping the compiler would import it first, which takes a second."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name
        self.operators.add(name)
        self.number += 1
        if name in FUSED:
            query, key, value = args[:3]
            scores = scores_between(query, key)
            self.operations += 2 * scores * (query.shape[-1] + value.shape[-1])
            self.scores_not_kept += scores * query.element_size()
        elif (count := flop_registry.get(func._overloadpacket)) is not None:
            self.operations += count(*args, **(kwargs or {}), out_val=result)
        operands = list(tensors_in((args, kwargs)))
        outputs = list(tensors_in(result))
        alive = [value for value in operands if value in self.clip]
        if self.constants is not None:
            pixels = not any(value in self.features for value in alive)
            read = () if name in BLANK else (*operands, *tensors_in((args, kwargs), sparse=True))
            self.constants.follow(name, read, args, outputs, clip=bool(alive), pixels=pixels)
        weights = tuple(
            (value, self._names(value)) for value in operands if value not in self.clip and value in self.made
        )
        if alive:
            self.halves.update(str(v.dtype).removeprefix("torch.") for v in outputs if v.dtype in HALVES)
            behind = any(value in self.features for value in alive)
            if weights and outputs:
                largest = max(alive, key=Tensor.numel)
                matrices = [i for i, v in enumerate(operands) if v in self.made and v not in self.clip and v.dim() > 1]
                place = next(i for i, v in enumerate(operands) if v is largest)
                first = bool(matrices) and matrices[-1] < place
                scores, version, walks = largest in self.scores, largest._version, _walks(name, args)
                late = largest in self.features
                self.readings.append(
                    Reading(name, weights, largest, outputs[0], first, scores, version, walks, late, self.number, place)
                )
                if not self.until.isdisjoint(self.readings[-1].parameters):
                    self.found = self.after == 0
                    self.after -= 1
                if self.found:
                    raise _Seen
            behind = behind or _multiplies(name, weights)
            for value in outputs if name not in BLANK else ():
                self.clip.add(value)
                if behind:
                    self.features.add(value)
                if (name in PRODUCTS and not weights) or (name in ELEMENTWISE and any(v in self.scores for v in alive)):
                    self.scores.add(value)
        elif weights:
            # Once each: what is scattered into itself over and over would double them at every step.
            names = tuple(dict.fromkeys(name for _, found in weights for name in found))
            for value in outputs:
                if value not in self.made:
                    self.made.add(value, names)
        if func._schema.is_mutable and operands and (alive or weights):
            (self.clip.add(operands[0]) if alive else self.made.add(operands[0]))
            if alive and behind:
                self.features.add(operands[0])
        return result

    def _names(self, value: Tensor) -> tuple[str, ...]:
        key = value.untyped_storage()._cdata
        if key not in self.extents:
            return self.made.held[key][1]
        begin, end = _extent(value)
        return tuple(name for first, last, name in self.extents[key] if first < end and begin < last)


def _multiplies(operator: str, weights: tuple[tuple[Tensor, tuple[str, ...]], ...]) -> bool:
    return any(kind in operator for kind in MULTIPLIES) and any(value.numel() > NORMALISES for value, _ in weights)


def _walks(operator: str, args: Any) -> Convolution | None:
    """Return how a convolution's kernel walks, from the arguments of aten::convolution; None for other operators."""
    if operator != "aten::convolution":
        return None
    _, weight, _, stride, padding, dilation, transposed, _, groups = args
    axes = weight.dim() - 2
    stride, padding, dilation = (
        tuple(int(v) for v in (value if len(value) == axes else list(value) * axes))
        for value in (stride, padding, dilation)
    )
    kernel = tuple(weight.shape[2:])
    return Convolution(
        kernel=kernel, stride=stride, padding=padding, dilation=dilation, groups=groups, transposed=transposed
    )


def _extent(value: Tensor) -> tuple[int, int]:
    """Return the first and one past the last element of a tensor in its storage."""
    begin = int(value.storage_offset())
    reach = sum((size - 1) * stride for size, stride in zip(value.shape, value.stride(), strict=True) if size)
    return begin, begin + int(reach) + 1


def tensors_in(value: Any, *, sparse: bool = False) -> Iterator[Tensor]:
    """Yield the tensors among arguments, or the sparse ones, such as an adjacency: these have no storage to tell."""
    if isinstance(value, Tensor):
        yield from (value,) if (value.layout is not torch.strided) is sparse else ()
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item, sparse=sparse)
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item, sparse=sparse)
