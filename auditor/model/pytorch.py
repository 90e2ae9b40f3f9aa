"""Models that are PyTorch already: a user's factory, or an architecture of torchvision."""

import difflib
import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from auditor.errors import NotAuditable, UsageError
from auditor.model.user_file import executed, in_a_line
from auditor.text import printable

VIDEO_SHAPE = (3, 16, 112, 112)
# Architectures whose position embeddings fix the frame size.
FIXED_SHAPES = {"mvit_v1_b": (3, 16, 224, 224), "mvit_v2_s": (3, 16, 224, 224)}
IMAGE_SHAPE = (3, 224, 224)


@dataclass(frozen=True, slots=True, eq=False)
class Built:
    """A network and what its source says about its input.

    `shape` is one clip in the network's own order; mean and std are None where nothing is known.
    """

    module: nn.Module
    name: str
    shape: tuple[int, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    origin: str = "given by the user"


def from_factory(source: str) -> Built:
    """Call a user's function `path/file.py:name` that returns a module. The file is executed.

    Raises
    ------
    UsageError
        The file or the function is missing, raises, or returns something else.
    """
    text, _, name = source.rpartition(":")
    path = Path(text)
    shown = printable(source)
    if not path.is_file():
        raise UsageError(f"there is no file {printable(text)}", "give path/file.py:factory")
    module = executed(path)
    factory = getattr(module, name, None)
    if factory is None:
        near = difflib.get_close_matches(name, [n for n in vars(module) if not n.startswith("_")], 3)
        hint = f"did you mean {', '.join(map(printable, near))}?" if near else "name a function that returns the model"
        raise UsageError(f"{printable(path.name)} defines no '{printable(name)}'", hint)
    if not callable(factory):
        raise UsageError(f"{shown} is not a function", "name a function that returns the model")
    try:
        network = factory()
    except Exception as error:
        raise UsageError(f"{shown} raised {in_a_line(error)}", "call it in Python to see where") from error
    if not isinstance(network, nn.Module):
        raise UsageError(
            f"{shown} returned {printable(type(network).__name__)}, not a torch.nn.Module",
            "return the model itself from the factory",
        )
    if isinstance(network, torch.jit.ScriptModule):
        raise NotAuditable(
            f"{shown} returned a TorchScript module, whose gradients cannot be watched",
            "return the nn.Module that it was made from",
        )
    shape = getattr(network, "input_shape", None) or getattr(factory, "input_shape", None)
    return Built(network, printable(name), _shape(shape, shown), origin="stated by the factory")


def _shape(value: Any, shown: str) -> tuple[int, ...] | None:
    if value is None:
        return None
    try:
        return tuple(int(extent) for extent in value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the input_shape of {shown} is not a sequence of integers", "give --input-shape") from error


def from_torchvision(name: str, classes: int | None) -> Built:
    """Build an architecture of torchvision with random weights; nothing is downloaded.

    Raises
    ------
    UsageError
        torchvision cannot be imported, or has no such classification model.
    """
    try:
        import torchvision
        from torchvision import models
    except (ImportError, RuntimeError) as error:  # a CPU-only torch beside a CUDA torchvision raises RuntimeError
        raise UsageError(
            f"torchvision cannot be imported ({in_a_line(error)})",
            "install torch and torchvision together: pip install --force-reinstall torch torchvision",
        ) from error
    videos, images = models.list_models(module=torchvision.models.video), models.list_models(module=torchvision.models)
    if name not in (*videos, *images):
        near = difflib.get_close_matches(name, [*videos, *images], 3, 0.4)
        hint = f"did you mean {', '.join(near)}?" if near else f"video models are {', '.join(videos)}"
        raise UsageError(f"torchvision has no classification model '{printable(name)}'", hint)
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = True
    network = models.get_model(name, weights=None, **options)
    mean, std = _published_normalisation(name)
    shape = FIXED_SHAPES.get(name, VIDEO_SHAPE) if name in videos else IMAGE_SHAPE
    return Built(network, name, shape, mean, std, origin="published by torchvision")


def _published_normalisation(name: str) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return the mean and std that torchvision's own transforms use for a model."""
    from torchvision import models

    transforms = models.get_model_weights(name).DEFAULT.transforms()
    mean, std = getattr(transforms, "mean", None), getattr(transforms, "std", None)
    if mean is None or std is None:
        return None, None
    return tuple(float(v) for v in mean), tuple(float(v) for v in std)


def trained_form(network: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the network in float32, evaluating, with every float parameter open to gradients, and notes."""
    notes = []
    wide = sorted(
        {str(p.dtype).removeprefix("torch.") for p in network.parameters() if p.is_floating_point()} - {"float32"}
    )
    if wide:
        notes.append(f"Weights in {', '.join(wide)} were converted to float32.")
    network = network.float().eval()
    for parameter in network.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    return network, tuple(notes)


def digest(state: Mapping[str, Tensor]) -> str:
    """Return the sha256 over names, shapes, types and bytes of a state dict."""
    total = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        total.update(f"{name}\0{tuple(value.shape)}\0{value.dtype}\0".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return total.hexdigest()


def class_counts(network: nn.Module) -> dict[str, int]:
    """Return how often each class of module occurs among the leaves, most frequent first."""
    leaves = Counter(type(module).__name__ for module in network.modules() if not any(module.children()))
    return {printable(name): count for name, count in leaves.most_common()}
