"""Recurrent layers written out step by step, as PyTorch computes them on the CPU, for every other device."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import dropout, linear
from torch.overrides import TorchFunctionMode

State = tuple[Tensor, ...]
# From the products of input and hidden state with their weights, and the states before, to the states after.
Step = Callable[[Tensor, Tensor, State], State]


def _gru(inputs: Tensor, hidden: Tensor, before: State) -> State:
    (i_reset, i_update, i_new), (h_reset, h_update, h_new) = inputs.chunk(3, -1), hidden.chunk(3, -1)
    new = (i_new + (i_reset + h_reset).sigmoid() * h_new).tanh()
    return ((before[0] - new) * (i_update + h_update).sigmoid() + new,)


def _lstm(inputs: Tensor, hidden: Tensor, before: State) -> State:
    enter, forget, candidate, leave = (inputs + hidden).chunk(4, -1)
    cell = forget.sigmoid() * before[1] + enter.sigmoid() * candidate.tanh()
    return leave.sigmoid() * cell.tanh(), cell


_STEPS: dict[str, Step] = {
    "gru": _gru,
    "lstm": _lstm,
    "rnn_tanh": lambda inputs, hidden, before: ((inputs + hidden).tanh(),),
    "rnn_relu": lambda inputs, hidden, before: ((inputs + hidden).relu(),),
}


class StepByStep(TorchFunctionMode):
    """Compute recurrent layers while active as on the CPU: one product with all inputs, then a step a frame.

    GPUs multiply the inputs of each frame by themselves, or run cuDNN, which has no second derivative. Attacks that
    read what one operation gives all frames would find another network than the CPU's. Packed sequences are left to
    PyTorch, without cuDNN.
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Write out calls of the four recurrent functions; leave everything else alone."""
        name = getattr(function, "__name__", "")
        if name not in _STEPS or not args or not isinstance(args[0], Tensor):
            return function(*args, **(kwargs or {}))
        if isinstance(args[1], Tensor) and not isinstance(args[3], bool):
            with torch.backends.cudnn.flags(enabled=False):
                return function(*args, **(kwargs or {}))
        outputs, states = _layers(_STEPS[name], *args, **(kwargs or {}))
        return (outputs, *states)


def _layers(
    step: Step,
    inputs: Tensor,
    start: Tensor | Sequence[Tensor],
    weights: Sequence[Tensor],
    biased: bool,
    layers: int,
    drop: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, State]:
    """Return outputs and last states of stacked layers; arguments are those of `torch.gru`."""
    states = (start,) if isinstance(start, Tensor) else tuple(start)
    x = inputs.transpose(0, 1) if batch_first else inputs
    ways, left = 1 + bidirectional, iter(weights)
    projected = len(states) > 1 and states[0].shape[-1] != states[1].shape[-1]
    last: list[State] = []
    for layer in range(layers):
        made = []
        for way in range(ways):
            before = tuple(s[layer * ways + way] for s in states)
            outputs, after = _one_way(step, x, before, left, biased, projected, backwards=way == 1)
            made.append(outputs)
            last.append(after)
        x = torch.cat(made, -1) if bidirectional else made[0]
        if drop and train and layer < layers - 1:
            x = dropout(x, drop)
    return (x.transpose(0, 1) if batch_first else x), tuple(map(torch.stack, zip(*last, strict=True)))


def _one_way(
    step: Step, x: Tensor, before: State, weights: Iterator[Tensor], biased: bool, projected: bool, backwards: bool
) -> tuple[Tensor, State]:
    to_inputs, to_hidden = next(weights), next(weights)
    input_bias, hidden_bias = (next(weights), next(weights)) if biased else (None, None)
    projection = next(weights) if projected else None
    products = linear(x, to_inputs, input_bias).unbind(0)
    outputs = []
    for product in reversed(products) if backwards else products:
        before = step(product, linear(before[0], to_hidden, hidden_bias), before)
        if projection is not None:
            before = (linear(before[0], projection), *before[1:])
        outputs.append(before[0])
    return torch.stack(outputs[::-1] if backwards else outputs), before
