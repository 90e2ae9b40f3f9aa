"""How much of an ONNX file is accounted for: its float numbers that are neither trained nor running statistics."""

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from auditor.model.onnx.graph import Node
from auditor.text import printable

SHOWN = 3


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


def _described(name: str, value: Tensor, reader: str) -> str:
    shape = "x".join(map(str, value.shape))
    place = f"read by {printable(reader, 40)}" if reader else "read by nothing"
    return f"'{printable(name, 60)}' ({shape}, {place})"
