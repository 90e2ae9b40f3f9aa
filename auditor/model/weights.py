"""Weights from files that cannot run code: safetensors, or a state dict read without unpickling objects."""

import pickle
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from auditor.errors import NotAuditable, UsageError
from auditor.model.onnx_file import PICKLE, ZIP
from auditor.text import printable

SAVE_AGAIN = "save it again with torch.save(model.state_dict(), 'weights.pt') and give that to --weights"
WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "weights")
SHOWN = 3


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the named tensors of a weights file, told by its content.

    Raises
    ------
    UsageError
        There is no such file.
    NotAuditable
        It holds anything but named tensors, or numbers that are not finite.
    """
    name = printable(path.name)
    if not path.exists():
        raise UsageError(f"there is no weights file {printable(str(path))}", "check the path given to --weights")
    if not path.is_file():
        raise UsageError(
            f"{printable(str(path))} is not a file", "give a .safetensors file or a state dict to --weights"
        )
    with path.open("rb") as stream:
        head = stream.read(9)
    state = _safetensors(path, name) if is_safetensors(head, path.stat().st_size) else _state_dict(path, name, head)
    for key, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise NotAuditable(
                f"tensor '{printable(key)}' in {name} holds NaN or infinity", "give a checkpoint that is finite"
            )
    return state


def is_safetensors(head: bytes, size: int) -> bool:
    """Tell a safetensors file by its first nine bytes: the length of a JSON header, then its brace."""
    return len(head) == 9 and head[8:] == b"{" and struct.unpack("<Q", head[:8])[0] <= size - 8


def _safetensors(path: Path, name: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise NotAuditable(f"{name} is a damaged safetensors file", "copy it again") from error


def _state_dict(path: Path, name: str, head: bytes) -> dict[str, Tensor]:
    if not head.startswith((ZIP, PICKLE)):
        raise NotAuditable(f"{name} is neither safetensors nor a PyTorch state dict", SAVE_AGAIN)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise NotAuditable(f"{name} holds Python objects, which run code when loaded", SAVE_AGAIN) from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise NotAuditable(f"{name} is damaged or no state dict", SAVE_AGAIN) from error
    for _ in WRAPPERS:
        inner = next(
            (
                content[key]
                for key in WRAPPERS
                if isinstance(content, Mapping) and isinstance(content.get(key), Mapping)
            ),
            None,
        )
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping):
        raise NotAuditable(f"{name} holds no named tensors", SAVE_AGAIN)
    state = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise NotAuditable(f"{name} holds no named tensors", SAVE_AGAIN)
    return state


def fill(module: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Load weights into a module, all of them or none.

    Raises
    ------
    UsageError
        Names are missing or unexpected, or shapes differ.
    """
    own = module.state_dict()
    given = dict(state)
    if given and all(key.startswith("module.") for key in given):  # saved from DataParallel
        given = {key.removeprefix("module."): value for key, value in given.items()}
    counters = {key for key in own if key.endswith("num_batches_tracked")}
    missing = sorted(own.keys() - given.keys() - counters)
    unexpected = sorted(given.keys() - own.keys())
    shapes = [key for key in own.keys() & given.keys() if own[key].shape != given[key].shape]
    problems = []
    if missing:
        problems.append(f"{len(missing)} missing ({_some(missing)})")
    if unexpected:
        problems.append(f"{len(unexpected)} unexpected ({_some(unexpected)})")
    if shapes:
        pairs = [f"{key} is {tuple(given[key].shape)}, the model has {tuple(own[key].shape)}" for key in sorted(shapes)]
        problems.append(f"{len(shapes)} of another shape ({_some(pairs)})")
    if problems:
        raise UsageError(
            f"{printable(name)} does not fit the model: {'; '.join(problems)}", "give the weights of this architecture"
        )
    module.load_state_dict(given, strict=False)


def _some(names: list[str]) -> str:
    shown = ", ".join(printable(name) for name in names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown}, …"
