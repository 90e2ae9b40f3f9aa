"""Every change by name: the values that it takes, and what makes it."""

import fnmatch
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from auditor.errors import UsageError
from auditor.model.surgery.activations import ACTIVATIONS, change_activation, change_dropout
from auditor.model.surgery.first_convolution import change_kernel, change_stride
from auditor.model.surgery.heads import change_head
from auditor.model.surgery.norms import change_norm
from auditor.model.surgery.pooling import change_pooling
from auditor.model.surgery.positions import change_positions
from auditor.model.surgery.refusal import refused
from auditor.text import did_you_mean, printable

_SIZES = r"[1-9]\d?(x[1-9]\d?){0,2}"


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of change: what values match, and how they are told."""

    pattern: str
    told: str
    make: Callable[[nn.Module, str, Tensor], str]


def _words(*words: str) -> tuple[str, str]:
    return "|".join(map(re.escape, words)), ", ".join(words)


def _freeze(network: nn.Module, value: str, x: Tensor) -> str:
    names = [n for n, _ in network.named_parameters() if fnmatch.fnmatchcase(n, value)]
    if not names:
        raise refused(f"frozen={value}", "no parameter has such a name", "name parameters as `fl-audit inspect` does")
    return f"{len(names)} parameters are frozen"


CHANGES: Mapping[str, _Kind] = {
    "pooling": _Kind(*_words("flatten", "average"), change_pooling),
    "stride": _Kind(_SIZES, "a number, or one for each axis: 1x2x2", change_stride),
    "kernel": _Kind(_SIZES, "an odd number, or one for each axis: 3x5x5", change_kernel),
    "activation": _Kind(*_words(*ACTIVATIONS), change_activation),
    "norm": _Kind(*_words("group", "batch", "none"), change_norm),
    "positions": _Kind(*_words("learned", "fixed", "none"), change_positions),
    "dropout": _Kind(r"0(\.\d+)?|\.\d+", "a share from 0 to below 1", change_dropout),
    "head": _Kind(*_words("mlp"), change_head),
    "frozen": _Kind(r".+", "names of parameters, e.g. layer1.*", _freeze),
}
# What no surgery makes exactly, and what does.
REFUSED: Mapping[str, str] = {
    "width": "every layer would be another: give a factory and --vary width=…",
    "depth": "blocks differ between networks: give a factory and --vary depth=…",
    "patch": "tokens and positions would be others: give a factory and --vary patch=…",
    "frames": "give the factory's argument to --vary, or compare files of other clips",
    "resolution": "give the factory's argument to --vary, or compare files of other clips",
}


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change did, as a note, and the parameters that it froze."""

    told: str
    frozen: tuple[str, ...] = ()


def check_change(name: str, value: str) -> None:
    """Raise UsageError unless there is such a change, with such a value."""
    if name in REFUSED:
        raise UsageError(f"--change {name} is no exact surgery", REFUSED[name])
    if name not in CHANGES:
        known = ", ".join(CHANGES)
        raise UsageError(f"--change {printable(name)} is unknown{did_you_mean(name, CHANGES)}", f"use one of {known}")
    if not re.fullmatch(CHANGES[name].pattern, value):
        raise UsageError(f"--change {name}={printable(value)} is unknown", f"give {CHANGES[name].told}")


def change_network(network: nn.Module, name: str, value: str, x: Tensor, seed: int) -> Changed:
    """Change a network in place; layers that have to be made anew are drawn by the seed.

    Parameters
    ----------
    x
        One clip as the network reads it.

    Raises
    ------
    UsageError
        The change does not apply to this network, or is none that could be made exactly.
    """
    check_change(name, value)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        told = CHANGES[name].make(network, value, x)
    frozen = tuple(n for n, _ in network.named_parameters() if name == "frozen" and fnmatch.fnmatchcase(n, value))
    for parameter in network.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return Changed(f"Changed by {name}={value}: {told}.", frozen)
