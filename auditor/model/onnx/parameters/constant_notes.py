"""Sentences for the report about constants of an ONNX file: what may be trained, and how much is not accounted for."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from torch import Tensor

from auditor.model.onnx.graph import Node
from auditor.model.onnx.parameters.constants import is_uniform
from auditor.records import Unaccounted
from auditor.text import printable

SHOWN = 3


def constant_notes(
    precomputed: Sequence[str],
    fixed: Mapping[str, str],
    passed: Sequence[str],
    guessed: Sequence[str],
    repeated: Sequence[str],
) -> Iterator[str]:
    """Yield what is to be told about constants that the file leaves in doubt.

    `fixed` gives, by name, what a constant is that is not trained; `repeated` are vectors of one repeated number.
    """
    if passed:
        yield (
            f"{_listed(passed)} may be trained, but is taken as fixed by its place and its numbers: if clients train "
            "it, its gradient is missing here."
        )
    if guessed:
        yield (
            f"Taken as trained, as the file does not record whether they are: {_listed(guessed)}. Leave fixed tables "
            "out with --trainable."
        )
    if precomputed:
        yield (
            f"The exporter computed {_listed(precomputed)} in advance, from parameters or fixed tables: an update "
            "holds the gradients of what lies behind. An export with optimize=False keeps the parameters themselves."
        )
    if repeated:
        yield (
            f"Taken as trained, though one number repeated, as norms and layer scales are before training: "
            f"{_listed(repeated)}. Leave fixed numbers out with --trainable."
        )
    for what in dict.fromkeys(fixed.values()):
        names = [name for name, found in fixed.items() if found == what]
        yield (
            f"Taken as fixed, not as trained, being {what}: {_listed(names)}. If clients train them, their gradients "
            "are missing here."
        )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(f"'{printable(name, 60)}'" for name in names[:SHOWN]) + more


def accounting(constants: Mapping[str, Tensor], nodes: Sequence[Node], known: Iterable[str]) -> str:
    """Return one sentence on the float constants of a file; `known` names its parameters and running statistics."""
    floats = {name: value for name, value in constants.items() if value.is_floating_point()}
    known = set(known)
    rest = {name: value for name, value in floats.items() if name not in known}
    total, left = (sum(value.numel() for value in values.values()) for values in (floats, rest))
    if not left:
        return f"All {total:,} float numbers of the file are parameters or running statistics."
    readers: dict[str, str] = {}
    for node in nodes:
        for name in node.inputs:
            readers.setdefault(name, node.operator)
    largest = sorted((name for name in rest if rest[name].numel() > 1), key=lambda name: -rest[name].numel())
    shown = ", ".join(_described(name, rest[name], readers.get(name, "")) for name in largest[:SHOWN])
    more = f" and {len(largest) - SHOWN} more" if len(largest) > SHOWN else ""
    single = sum(rest[name].numel() == 1 for name in rest)
    numbers = f"{single} single number{'' if single == 1 else 's'}" if single else ""
    listed = ", and ".join(text for text in (f"{shown}{more}", numbers) if text)
    are = "is neither parameter nor running statistic" if left == 1 else "are neither parameters nor running statistics"
    return f"Of the file's {total:,} float numbers {left:,} {are}: {listed}."


def unaccounted(constants: Mapping[str, Tensor], known: Collection[str], fixed: Collection[str]) -> Unaccounted:
    """Count the float constants of a file; `fixed` names those that are told to be fixed by what they hold."""
    floats = {name: value for name, value in constants.items() if value.is_floating_point()}
    rest = {name: value for name, value in floats.items() if name not in known}
    return Unaccounted(
        numbers=sum(value.numel() for value in rest.values()),
        # Single numbers are exponents, epsilons and factors of a formula; one number repeated starts a state.
        fixed=sum(value.numel() for name, value in rest.items() if name in fixed or is_uniform(value)),
        of_numbers=sum(value.numel() for value in floats.values()),
    )


def _described(name: str, value: Tensor, reader: str) -> str:
    shape = "x".join(map(str, value.shape))
    place = f"read by {printable(reader, 40)}" if reader else "read by nothing"
    return f"'{printable(name, 60)}' ({shape}, {place})"
