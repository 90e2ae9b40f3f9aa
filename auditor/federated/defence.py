"""Every defence that a client may be told to use, by what the user writes for it."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from auditor.errors import UsageError
from auditor.federated.compression import Quantise, Sign, TopK
from auditor.records import Defence
from auditor.text import printable

DEFENCES: tuple[type[Defence], ...] = (TopK, Sign, Quantise)


def parse(written: str) -> Defence:
    """Return the defence that a text stands for, such as "top-k:0.1".

    Raises
    ------
    UsageError
        There is no such defence, or its number is out of range.
    """
    name, _, number = written.partition(":")
    found = next((kind for kind in DEFENCES if kind.name == name), None)
    if found is None:
        forms = ", ".join(kind.form for kind in DEFENCES)
        raise UsageError(f"--defence {printable(written, 40)} is unknown", f"use {forms}")
    try:
        return found.of(number)
    except ValueError as error:
        raise UsageError(f"--defence {printable(written, 40)} cannot be read", f"use {found.form}") from error


def defend(
    defences: Sequence[Defence], update: Mapping[str, Tensor], generator: torch.Generator
) -> Mapping[str, Tensor]:
    """Return what is sent in place of an update: every defence in turn, on what the one before it leaves."""
    for defence in defences:
        update = defence.apply(update, generator)
    return update
