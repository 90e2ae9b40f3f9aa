"""The calls of one forward pass as a graph that can be run again piece by piece, forwards and backwards."""

import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from auditor.attack.recursion.subnetwork import WEIGHTED, Operation
from auditor.records import Clips, PublicModel, View

# Two runs of the same calls agree to float32 rounding.
_SAME = 1e-5
# Backward passes that ought to be the same are: what is linear does not look at its input.
_AFFINE = 1e-10


@dataclass(frozen=True)
class GraphValue:
    """Stands for a tensor that depends on the clip, among the arguments of a call."""

    number: int


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a torch function on values that depend on the clip.

    Attributes
    ----------
    inputs, outputs
        Numbers of the values that it reads and makes.
    weight
        The parameter that it multiplies with, where it is a convolution or matrix product; else None.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    weight: str | None = None

    @property
    def name(self) -> str:
        """The function's name, for people."""
        return str(getattr(self.function, "__name__", self.function)).strip("_")

    def __call__(self, values: Mapping[int, Tensor]) -> tuple[Tensor, ...]:
        """Run it again on other values of the same shapes; constants take their precision."""
        precision = values[self.inputs[0]].dtype
        made = self.function(
            *(_filled(a, values, precision) for a in self.args),
            **{k: _filled(a, values, precision) for k, a in self.kwargs.items()},
        )
        return tuple(_tensors(made))


@dataclass(frozen=True, eq=False)
class CallGraph:
    """All calls between a clip (value 0) and the logits, in order; `shapes` are those of every value."""

    calls: tuple[Call, ...]
    shapes: tuple[tuple[int, ...], ...]
    logits: int

    @cached_property
    def producer(self) -> dict[int, int]:
        """The place of the call that makes a value."""
        return {out: place for place, call in enumerate(self.calls) for out in call.outputs}

    @cached_property
    def _kinds(self) -> dict[int, str]:
        return {}

    def kind(self, call: Call) -> str:
        """Return what a call does to gradients: weighted, rectifies, rearranges, affine, picks, or mixes."""
        key = id(call)
        if key not in self._kinds:
            self._kinds[key] = (
                "weighted" if call.weight is not None
                else "rectifies" if self.rectifies(call)
                else "rearranges" if self.rearranges(call)
                else "affine" if self.affine(call)
                else "picks" if self.picks(call)
                else "mixes"
            )  # fmt: skip
        return self._kinds[key]

    def pull(self, call: Call, cotangents: Mapping[int, Tensor], at: float = 0.0) -> dict[int, Tensor]:
        """Return the loss's gradient at what a call reads, from that at what it makes, with `at` for its inputs.

        Every cotangent is made contiguous first: the backward pass of BatchNorm on the CPU is silently wrong for
        strides that a batch axis of size one may have (seen with PyTorch 2.14).
        """
        generator = torch.Generator().manual_seed(0)
        some = next(iter(cotangents.values()))
        values = {
            n: torch.zeros(self.shapes[n]).to(some)
            if at == 0.0
            else at * torch.randn(self.shapes[n], generator=generator, dtype=torch.float64).to(some)
            for n in call.inputs
        }
        for value in values.values():
            value.requires_grad_(True)
        with torch.enable_grad():
            made = call({n: v.clone() for n, v in values.items()})
            known = [(out, cotangents[n]) for n, out in zip(call.outputs, made, strict=True) if n in cotangents]
            known = [(out, c) for out, c in known if out.requires_grad]
            if not known:
                return {}
            pulled = torch.autograd.grad(
                [out for out, _ in known],
                list(values.values()),
                [c.to(out).reshape(out.shape).clone(memory_format=torch.contiguous_format) for out, c in known],
                allow_unused=True,
            )
        return {n: g.to(some) for n, g in zip(values, pulled, strict=True) if g is not None}

    def affine(self, call: Call) -> bool:
        """Tell whether a call's backward pass is the same whatever it read."""
        generator = torch.Generator().manual_seed(1)
        cotangents = {n: torch.randn(self.shapes[n], generator=generator, dtype=torch.float64) for n in call.outputs}
        here, there = self.pull(call, cotangents), self.pull(call, cotangents, at=1.0)
        if here.keys() != there.keys():
            return False
        return all(float((here[n] - there[n]).norm()) <= _AFFINE * float(there[n].norm()) for n in here)

    def rectifies(self, call: Call) -> bool:
        """Tell whether a call is max(0, .), unit by unit."""
        if len(call.inputs) != 1 or len(call.outputs) != 1:
            return False
        shape = self.shapes[call.inputs[0]]
        drawn = 4.0 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
        if shape != self.shapes[call.outputs[0]]:
            return False
        with torch.no_grad():
            return bool(torch.equal(call({call.inputs[0]: drawn.clone()})[0], drawn.clamp(min=0.0)))

    def rearranges(self, call: Call) -> bool:
        """Tell whether a call puts the elements of its one input into another order or shape, and does nothing else."""
        if len(call.inputs) != 1 or len(call.outputs) != 1:
            return False
        (before,), (after,) = call.inputs, call.outputs
        count = torch.Size(self.shapes[before]).numel()
        if count != torch.Size(self.shapes[after]).numel():
            return False
        index = torch.arange(1.0, count + 1.0, dtype=torch.float64)
        with torch.no_grad():
            # A copy: the call may write in place.
            made = call({before: index.clone().view(self.shapes[before])})[0].flatten().double()
        return bool(torch.equal(made.sort().values, index))

    def picks(self, call: Call) -> bool:
        """Tell whether every number that a call makes is one of those that it reads, the largest or so: a max-pool."""
        if len(call.inputs) != 1 or len(call.outputs) != 1:
            return False
        drawn = torch.randn(self.shapes[call.inputs[0]], generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            made, more = (call({call.inputs[0]: value})[0] for value in (drawn.clone(), drawn + drawn.abs()))
        return bool(torch.isin(made, drawn).all()) and bool((more >= made).all())

    def operation(self, call: Call) -> Operation:
        """Return a weighted call as an operation, with zeros for what it reads."""
        assert call.weight is not None
        values = {n: torch.zeros(self.shapes[n]) for n in call.inputs}
        args = tuple(_filled(a, values, torch.float32) for a in call.args)
        place = next(i for i, a in enumerate(call.args) if isinstance(a, GraphValue))
        made = torch.zeros(self.shapes[call.outputs[0]])
        return Operation(call.weight, call.function, args, call.kwargs, place, args[place], made)

    def forward(
        self, clips: Clips, wanted: Collection[int], instead: Mapping[int, Tensor]
    ) -> Iterator[tuple[Call, dict[int, Tensor]]]:
        """Run the calls that wanted values need; yield each call with all values so far.

        Whatever reads a value of `instead` gets that, not what was computed.
        """
        values = {0: clips}
        for place in self._needed(wanted, instead):
            call = self.calls[place]
            values.update(zip(call.outputs, call(values), strict=True))
            yield call, values
            values.update({n: instead[n].to(values[n]) for n in call.outputs if n in instead})

    def _needed(self, wanted: Collection[int], instead: Mapping[int, Tensor]) -> list[int]:
        made: set[int] = set()
        left = [self.producer[n] for n in wanted]
        while left:
            place = left.pop()
            if place not in made:
                made.add(place)
                left += [self.producer[n] for n in self.calls[place].inputs if n != 0 and n not in instead]
        return sorted(made)


def trace_client(view: View) -> CallGraph | None:
    """Record the public model as clients run it, without dropout, on random clips; None as `trace`.

    There are as many as share the update.
    """
    model = view.target.model
    model.batchnorm(view.client.protocol.bn)
    model.dropout(False)
    device = next(iter(view.update.gradients.values())).device
    clip = torch.rand((view.update.batch, *view.knowledge.clip_shape), generator=torch.Generator().manual_seed(0)).to(
        device
    )
    return trace(model, clip)


def trace(model: PublicModel, clips: Clips) -> CallGraph | None:
    """Record every torch call of one forward pass on the clips; None where a repetition gives other logits.

    Calls work on copies, so whatever writes in place is recorded as if it made a new value.
    """
    recorder = _Recorder(dict(model.named_parameters()), clips)
    with torch.no_grad():
        expected = model(clips)
        with recorder:
            logits = model(clips)
    number = recorder.numbers.get(id(logits))
    if number is None or float((logits - expected).norm()) > _SAME * float(expected.norm()):
        return None
    return CallGraph(tuple(recorder.calls), tuple(recorder.shapes), number)


class _Recorder(TorchFunctionMode):
    def __init__(self, parameters: Mapping[str, Tensor], clips: Tensor) -> None:
        super().__init__()
        self._names = {value.untyped_storage()._cdata: (name, value.numel()) for name, value in parameters.items()}
        self.calls: list[Call] = []
        self.numbers = {id(clips): 0}
        self.shapes: list[tuple[int, ...]] = [tuple(clips.shape)]
        # An id is a value's own for as long as the value lives; held, those of a large net would take gigabytes.
        self._living = {id(clips): weakref.ref(clips)}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Record calls that read what depends on the clip; leave everything else alone."""
        given = kwargs or {}
        args_of, kwargs_of = self._marked(args), {k: self._marked(a) for k, a in given.items()}
        read = tuple(dict.fromkeys(v.number for v in _marks((args_of, kwargs_of))))
        if not read:
            return func(*args, **given)
        known = [value for value in _tensors((args, tuple(given.values()))) if id(value) in self.numbers]
        copies = {self.numbers[id(value)]: value.clone() for value in known}
        precision = None
        made = func(
            *(_filled(a, copies, precision) for a in args_of),
            **{k: _filled(a, copies, precision) for k, a in kwargs_of.items()},
        )
        results = list(_tensors(made))
        if results:
            first = len(self.shapes)
            for result in results:
                self._number(result)
            outputs = tuple(range(first, len(self.shapes)))
            call = Call(func, args_of, kwargs_of, read, outputs)
            self.calls.append(replace(call, weight=self._weight(call)))
        return made

    def _number(self, value: Tensor) -> None:
        key = id(value)
        self.numbers[key] = len(self.shapes)
        self.shapes.append(tuple(value.shape))
        self._living[key] = weakref.ref(value, lambda gone: self._forget(key, gone))

    def _forget(self, key: int, gone: weakref.ref[Tensor]) -> None:
        # Where another value has the same id by now, that one stays.
        if self._living.get(key) is gone:
            del self._living[key], self.numbers[key]

    def _marked(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            number = self.numbers.get(id(value))
            return value if number is None else GraphValue(number)
        return type(value)(self._marked(v) for v in value) if type(value) in (tuple, list) else value

    def _weight(self, call: Call) -> str | None:
        if call.name not in WEIGHTED or len(call.inputs) != 1 or not isinstance(call.args[0], GraphValue):
            return None
        for value in (*call.args, *call.kwargs.values()):
            if isinstance(value, Tensor) and value.dim() > 1:
                name, size = self._names.get(value.untyped_storage()._cdata, (None, 0))
                if name is not None and size == value.numel():
                    return name
        return None


def _filled(value: Any, values: Mapping[int, Tensor], precision: torch.dtype | None) -> Any:
    if isinstance(value, GraphValue):
        return values[value.number]
    if isinstance(value, Tensor):
        return value.detach().to(precision) if precision is not None and value.is_floating_point() else value
    if type(value) in (tuple, list):
        return type(value)(_filled(v, values, precision) for v in value)
    return value


def _marks(value: Any) -> Iterator[GraphValue]:
    if isinstance(value, GraphValue):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _marks(item)
    elif isinstance(value, dict):
        yield from _marks(list(value.values()))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
