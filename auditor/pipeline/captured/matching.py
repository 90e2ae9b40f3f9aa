"""Which tensor of a captured file is which of the model: by name, by a name with a prefix more, or by order."""

import re
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from auditor.errors import UsageError
from auditor.model.pytorch.fitting import renamed
from auditor.model.pytorch.weights import Weights
from auditor.records import Target, record
from auditor.results.updates.captured import MatchedTensor
from auditor.text import printable

_THIS = "give an update of this model"
_COUNTER = "num_batches_tracked"
# peft calls a factor lora_A.default.weight, and lora_A.weight in adapter_model.safetensors.
_ADAPTER = re.compile(r"(?<=lora_A|lora_B)\.[^.]+(?=\.weight$)")
_SHOWN = 3


@record
class Matching:
    """A file's tensors under the model's names.

    Attributes
    ----------
    tensors
        Of parameters and buffers, as the file holds them.
    rows
        How each was matched, in the model's order.
    missing
        Parameters that clients train and the file lacks.
    unexpected
        What the file holds and the model does not.
    """

    tensors: Mapping[str, Tensor]
    rows: tuple[MatchedTensor, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    notes: tuple[str, ...] = ()


def state_of(target: Target) -> dict[str, Tensor]:
    """Return parameters and buffers of the model by name, in the order of its state."""
    model = target.model
    assert isinstance(model, nn.Module)
    return {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}


def match(weights: Weights, target: Target, sent: Sequence[str]) -> Matching:
    """Match a file's tensors with a model of which clients send the parameters `sent`.

    Raises
    ------
    UsageError
        The file is of another model, holds no parameter that clients train, or numbers that are not finite.
    """
    own = state_of(target)
    named = None if weights.in_order else _by_name(weights, own)
    ordered = named is None or not named[0]
    tensors, given, notes = _by_order(weights, own, sent) if named is None or ordered else named
    # Counters of batches are scalars, which some programs save as lists of one.
    shapes = [n for n in tensors if tensors[n].shape != own[n].shape and not n.endswith(_COUNTER)]
    if shapes:
        raise UsageError(f"{weights.name} does not fit the model: {_shapes(shapes, tensors, own)}", _THIS)
    missing = tuple(name for name in sent if name not in tensors)
    taken = set(given.values())
    unexpected = tuple(key for key in weights.state if key not in taken)
    if len(missing) == len(sent):
        raise UsageError(f"{weights.name} holds no parameter that clients train: {_some(weights.state)}", _THIS)
    if missing and unexpected:
        raise UsageError(
            f"{weights.name} does not fit the model: {len(missing)} missing ({_some(missing)}), {len(unexpected)} "
            f"unexpected ({_some(unexpected)})",
            f"{_THIS}, or rename in it what is called otherwise",
        )
    _check_values(weights, tensors, given)
    rows = tuple(
        MatchedTensor(
            name=name,
            given=given[name],
            how="order" if ordered else "name" if given[name] == name else "renamed",
            shape=tuple(own[name].shape),
        )
        for name in own
        if name in tensors
    )
    return Matching(tensors=tensors, rows=rows, missing=missing, unexpected=unexpected, notes=(*weights.notes, *notes))


def _by_name(weights: Weights, own: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str], tuple[str, ...]]:
    """Return the tensors that the model has by its names, the file's names of these, and what is to be said."""
    # peft leaves out of files what an adapter is called.
    called = {_ADAPTER.sub("", name): name for name in own if _ADAPTER.search(name)}
    plain, notes = renamed(dict(weights.state), [*own, *called])
    plain = {called.get(key, key): value for key, value in plain.items()}
    heads = {f"head.{key}": value for key, value in plain.items()}  # a client of two parts may know its head alone
    if sum(key in own for key in heads) > sum(key in own for key in plain):
        plain = heads
    found = {key: value for key, value in plain.items() if key in own}
    before = {id(value): key for key, value in weights.state.items()}
    return found, {key: before[id(value)] for key, value in found.items()}, notes


def _by_order(
    weights: Weights, own: Mapping[str, Tensor], sent: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, str], tuple[str, ...]]:
    """Take tensors without names in the first order of the model's state that their shapes fit."""
    values = list(weights.state.values())
    orders = list(_orders(own, sent))
    for names in orders:
        if [own[name].shape for name in names] == [value.shape for value in values]:
            given = dict(zip(names, weights.state, strict=True))
            twice = len(values) - len({tuple(value.shape) for value in values})
            alike = f"Taken by order; {twice} have the shape of another, and a wrong order of these would not show."
            return dict(zip(names, values, strict=True)), given, (alike,) if twice else ()
    lacking = "without names" if weights.in_order else "under other names than the model's"
    raise UsageError(
        f"{weights.name} holds tensors {lacking}, and they do not fit in order: {_off(values, orders, own)}",
        "give an update of this model in the order of its state, or a file with its names",
    )


def _orders(own: Mapping[str, Tensor], sent: Sequence[str]) -> Iterator[list[str]]:
    """All that travels; the whole state; the state without counters of batches."""
    yield list(sent)
    yield list(own)
    yield [name for name in own if not name.endswith(_COUNTER)]


def _off(values: Sequence[Tensor], orders: Sequence[Sequence[str]], own: Mapping[str, Tensor]) -> str:
    """Say what differs from the order that has as many tensors, else how many there are."""
    names = next((order for order in orders if len(order) == len(values)), None)
    if names is None:
        counts = " or ".join(dict.fromkeys(str(len(order)) for order in orders))
        return f"there are {len(values)}, the model has {counts}"
    return next(
        f"number {i} is {tuple(value.shape)} where '{printable(name)}' is {tuple(own[name].shape)}"
        for i, (name, value) in enumerate(zip(names, values, strict=True))
        if own[name].shape != value.shape
    )


def _check_values(weights: Weights, tensors: Mapping[str, Tensor], given: Mapping[str, str]) -> None:
    for name, value in tensors.items():
        if name.endswith(_COUNTER):
            continue
        shown = f"tensor '{printable(given[name])}' in {weights.name}"
        if not value.is_floating_point():
            kind = str(value.dtype).removeprefix("torch.")
            raise UsageError(
                f"{shown} holds {kind}, not floating-point numbers", "give the update before it was packed"
            )
        if not bool(torch.isfinite(value.float()).all()):
            raise UsageError(f"{shown} holds NaN or infinity", "give an update of a training that did not diverge")


def _shapes(names: Sequence[str], tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    first = names[0]
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return f"'{printable(first)}' is {tuple(tensors[first].shape)}, the model has {tuple(own[first].shape)}{more}"


def _some(names: Sequence[str] | Mapping[str, Tensor]) -> str:
    listed = list(names)
    shown = ", ".join(printable(name, 60) for name in listed[:_SHOWN])
    return f"{shown}, …" if len(listed) > _SHOWN else shown
