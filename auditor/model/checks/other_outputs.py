"""Outputs that the loss does not read: what leads to them alone, and whether one of them was meant."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from auditor.errors import UsageError
from auditor.model.checks.slopes import nodes
from auditor.model.output import PREFERRED, chosen, floating, parts
from auditor.model.video import VideoModel
from auditor.text import printable

SHOWN = 3


def read_elsewhere(model: VideoModel, outputs: Any, logits: Tensor) -> set[str]:
    """Return the parameters that other outputs depend on, and the logits do not."""
    if isinstance(outputs, Tensor):
        return set()
    names = {id(value): name for name, value in model.named_parameters()}
    return _leaves(_floats(outputs).values(), names) - _leaves([logits], names)


def elsewhere_notes(names: set[str]) -> list[str]:
    """Say which parameters get no gradient, as the loss does not read what they lead to."""
    if not names:
        return []
    shown = ", ".join(f"'{printable(name, 60)}'" for name in sorted(names)[:SHOWN])
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [
        f"{len(names)} parameters lead to outputs that the loss does not read, and get no gradient here: {shown}"
        f"{more}. If clients' loss reads those outputs too, an update tells more than is audited."
    ]


def check_last(model: VideoModel, outputs: Any) -> None:
    """Ask which output is read, where the first is what layers make another of, as features are of logits.

    `outputs` is everything that a network returned, with gradients attached.

    Raises
    ------
    UsageError
        The user did not choose, no name tells, and parameters lie between.
    """
    if isinstance(outputs, Tensor) or model.wanted_output is not None:
        return
    named = _floats(outputs)
    name = chosen(tuple(named), None, tuple(named))
    first = named[name].grad_fn
    if name in PREFERRED or first is None:
        return
    names = {id(value): key for key, value in model.named_parameters()}
    own = _leaves([named[name]], names)
    for other, value in named.items():
        if value.grad_fn is first or not any(node is first for node in nodes(value.grad_fn)):
            continue
        between = sorted(_leaves([value], names) - own)
        if between:
            raise UsageError(
                f"the model returns '{printable(name, 40)}' and, made of it by '{printable(between[0], 60)}', "
                f"'{printable(other, 40)}': which of them the loss reads is not certain",
                f"give --model-output {printable(other, 40)} (if the first are features), or --model-output "
                f"{printable(name, 40)}",
            )


def _floats(outputs: Any) -> dict[str, Tensor]:
    named = parts(outputs)
    return {name: named[name] for name in floating(named)}


def _leaves(values: Iterable[Tensor], names: Mapping[int, str]) -> set[str]:
    found = (getattr(node, "variable", None) for value in values for node in nodes(value.grad_fn))
    return {names[id(variable)] for variable in found if id(variable) in names}
