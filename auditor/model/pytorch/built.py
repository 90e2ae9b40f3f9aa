"""A network and what its source says about it."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from auditor.records import Layout
from auditor.text import printable

CONVERTED = "were converted to float32."
TYPES_APART = re.compile(r"should be the same|same dtype|scalar type|c10::|data ?type", re.IGNORECASE)


@dataclass(frozen=True, slots=True, eq=False)
class Built:
    """A network and what its source says about its input; None where the source says nothing.

    Attributes
    ----------
    shape
        One clip in the network's own order, without batch.
    classes
        Number of classes that the source states.
    origin
        Where the description of the input comes from.
    weighted
        False where the weights are random.
    batch, batchnorm
        As in `records.Fidelity`; an empty `batchnorm` is to be told from the modules.
    evidence
        How `batchnorm` was told.
    operators
        How often each operation occurs; None counts modules.
    """

    module: nn.Module
    name: str
    shape: tuple[int, ...] | None = None
    layout: Layout | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    value_range: tuple[float, float] | None = None
    classes: int | None = None
    origin: str = "given by the user"
    weighted: bool = True
    batch: str = "dynamic"
    batchnorm: str = ""
    evidence: str = ""
    operators: Mapping[str, int] | None = None
    notes: tuple[str, ...] = ()


def trained_form(network: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the network in float32, evaluating, with every float parameter open to gradients, and notes."""
    notes = []
    wide = sorted(
        {str(p.dtype).removeprefix("torch.") for p in network.parameters() if p.is_floating_point()} - {"float32"}
    )
    if wide:
        notes.append(f"Weights in {', '.join(wide)} {CONVERTED}")
    network = network.float().eval()
    for parameter in network.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    return network, tuple(notes)


def precision_hint(failure: str, notes: Sequence[str]) -> str:
    """Return what to do where forward casts the clip to a type that the weights no longer have; empty elsewhere."""
    if not (any(CONVERTED in note for note in notes) and TYPES_APART.search(failure)):
        return ""
    return (
        "the weights are float32 here: let forward take the type from them in place of a fixed one, "
        "x.to(next(self.parameters()).dtype)"
    )


def digest(state: Mapping[str, Tensor]) -> str:
    """Return the sha256 over names, shapes, types and bytes of a state dict."""
    total = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu()
        value = (value if value.layout is torch.strided else value.to_dense()).contiguous()
        total.update(f"{name}\0{tuple(value.shape)}\0{value.dtype}\0".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return total.hexdigest()


def class_counts(network: nn.Module) -> dict[str, int]:
    """Return how often each class of module occurs among the leaves, most frequent first."""
    leaves = Counter(_class_name(module) for module in network.modules() if not any(module.children()))
    return {printable(name): count for name, count in leaves.most_common()}


def _class_name(module: nn.Module) -> str:
    scripted = getattr(module, "original_name", None)  # what a TorchScript module was before
    return scripted if isinstance(scripted, str) else type(module).__name__
