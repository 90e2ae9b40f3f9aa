"""Weights from files that cannot run code: safetensors, or a state dict read without unpickling objects."""

import io
import json
import os
import pickle
import re
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from auditor.errors import NotAuditable, UsageError
from auditor.model.pytorch.arrays import is_npz, read_npz
from auditor.model.pytorch.data_exchange import stated, stated_in_header
from auditor.model.pytorch.resave import pickle_line, resave_line
from auditor.model.pytorch.unread import left_out, read_tensors
from auditor.model.sandbox.contents import PICKLE, ZIP, Content, identify, is_safetensors
from auditor.model.sandbox.foreign_formats import UNPACK
from auditor.model.sandbox.untrusted_paths import read_beside
from auditor.records import record
from auditor.text import printable

SAVE_AGAIN = "save it again with torch.save(model.state_dict(), 'weights.pt') and give that to --weights"
# Where training programs keep the weights inside a checkpoint; the averaged copies come second.
WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net", "network", "model_state", "weights", "params")
AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "ema_model", "averaged_model")
DEEPEST = 5
SHOWN = 5
# What is said of files that are given as a model.
NO_MODEL = re.compile(r"give a model|a model here|model inside|name it \.py")
# What stands beside the adapters that PEFT saves.
ADAPTER = "adapter_config.json"
# What to take out of a folder, the whole before its parts.
FILES = ("*.index.json", "*.safetensors", "*.npz", "*.pt", "*.pth", "*.bin", "*.ckpt")


@record
class Weights:
    """Tensors of a file, and what has to be said about how they were found in it.

    Attributes
    ----------
    in_order
        True where names say nothing: the tensors stand in the order of the network's own state.
    kind, steps
        What the file itself says it holds, and of how many local steps (`data_exchange.stated`).
    """

    name: str
    state: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()
    in_order: bool = False
    kind: str = ""
    steps: int | None = None


def read_weights(path: Path) -> Weights:
    """Return the named tensors of a weights file, told by its content.

    Raises
    ------
    UsageError
        There is no such file.
    NotAuditable
        It holds anything but named tensors, or numbers that are not finite.
    """
    if not os.path.exists(path):  # also false for what can be no path
        raise UsageError(f"there is no weights file {printable(str(path))}", "check the path given to --weights")
    if path.is_dir():
        raise UsageError(f"{printable(str(path))} is not a file but a folder", folder_remedy(path))
    if not path.is_file():
        raise UsageError(
            f"{printable(str(path))} is not a file", "give a .safetensors file or a state dict to --weights"
        )
    weights = named_tensors(path)
    for key, value in weights.state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise NotAuditable(
                f"tensor '{printable(key)}' in {weights.name} holds NaN or infinity", "give a checkpoint that is finite"
            )
    return weights


def named_tensors(path: Path) -> Weights:
    """Return the named tensors of a regular file, whatever their values.

    Raises
    ------
    NotAuditable
        It holds anything else.
    """
    name = printable(path.name)
    if path.stat().st_size == 0:
        raise NotAuditable(f"{name} is empty", "copy it again")
    found = _content(path, name)
    return Weights(name=name, **{**found, "state": _dense(found["state"], name)})


def _dense(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return tensors as rows of numbers, also those that were saved sparse."""
    for key, value in state.items():
        if value.is_quantized or value.is_meta:
            what = "is quantised" if value.is_quantized else "holds no numbers (it is on the meta device)"
            raise NotAuditable(f"tensor '{printable(key)}' in {name} {what}", "give the weights of the float model")
    return {key: value if value.layout is torch.strided else value.to_dense() for key, value in state.items()}


def _content(path: Path, name: str) -> dict[str, Any]:
    content = identify(path)
    if content.kind == "foreign" and is_npz(path):
        state, in_order = read_npz(path, name)
        return {"state": state, "in_order": in_order}
    refused = NotAuditable(_refusal(name, content), _remedy(path, content))
    if content.kind == "pickle":
        try:
            return _read(path, name)
        except NotAuditable:
            raise refused from None  # nothing in it can be read without its objects
    if content.kind not in ("weights", "onnx"):
        raise refused
    return _read(path, name)


def folder_remedy(path: Path) -> str:
    """Say what to give in place of a folder."""
    shown = printable(str(path), 200)
    if (path / ADAPTER).is_file():
        return (
            f"it holds PEFT adapters, which need their base model: return peft.PeftModel.from_pretrained(network, "
            f"{shown!r}, is_trainable=True) from the factory, and leave --weights out"
        )
    found = (name for pattern in FILES for name in sorted(file.name for file in path.glob(pattern)))
    inside = next(found, None)
    if inside is None:
        return "give a .safetensors file or a state dict to --weights"
    return f"give the file inside it: {printable(str(path / inside), 200)}"


def _refusal(name: str, content: Content) -> str:
    if content.kind == "pickle":
        return f"{name} holds Python objects, which run code when loaded"
    if content.kind == "foreign" and "damaged" not in content.what:
        return f"{name} is neither safetensors nor a PyTorch state dict but {content.what}"
    return f"{name} is {content.what}"


def _remedy(path: Path, content: Content) -> str:
    if path.name == ADAPTER:
        return folder_remedy(path.parent)
    line = resave_line(path, content.kind)
    if line:
        return f"if you know where it comes from, save its state_dict alone: {line}, and give that to --weights"
    if content.remedy == UNPACK:
        return "unpack it and give the weights inside to --weights"
    if content.what == "a NumPy array":
        return "save all arrays in one file, numpy.savez('weights.npz', *arrays), and give that to --weights"
    return SAVE_AGAIN if NO_MODEL.search(content.remedy) else content.remedy or SAVE_AGAIN


def _read(path: Path, name: str) -> dict[str, Any]:
    with path.open("rb") as stream:
        head = stream.read(9)
    if is_safetensors(head, path.stat().st_size):
        content = path.read_bytes()
        return {"state": _safetensors(content, name), **stated_in_header(content)}
    if head.lstrip()[:1] == b"{":
        return {"state": _sharded(path, name)}
    return _state_dict(path, name, head)


def _safetensors(content: bytes, name: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(content)
    except SafetensorError as error:
        raise NotAuditable(f"{name} is a damaged safetensors file", "copy it again") from error


def _sharded(path: Path, name: str) -> dict[str, Tensor]:
    """Read the shards that an index names; they must lie beside it."""
    places = json.loads(path.read_bytes())["weight_map"]
    if not all(isinstance(place, str) for place in places.values()):
        raise NotAuditable(f"{name} is a damaged index of weights", "copy it again")
    state: dict[str, Tensor] = {}
    for place in sorted(set(places.values())):
        shard = printable(place)
        content = read_beside(path.parent, place)
        if is_safetensors(content[:9], len(content)):
            found = _safetensors(content, shard)
        else:
            found = _state_dict(io.BytesIO(content), shard, content[:9])["state"]
        if found.keys() != {key for key, where in places.items() if where == place}:
            raise NotAuditable(f"the shard {shard} does not hold what the index {name} says", "copy all files again")
        state |= found
    return state


def _state_dict(source: Path | IO[bytes], name: str, head: bytes) -> dict[str, Any]:
    if not head.startswith((ZIP, PICKLE)):
        remedy = "give an ONNX file as MODEL: it carries its own" if name.endswith(".onnx") else SAVE_AGAIN
        raise NotAuditable(f"{name} is neither safetensors nor a PyTorch state dict", remedy)
    try:
        with warnings.catch_warnings(), ExitStack() as stack:
            warnings.simplefilter("ignore")  # of pickle protocols: what matters is said below
            # An open file: torch goes by the suffix of a path.
            stream = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
            content, unread = read_tensors(stream)
    except pickle.UnpicklingError as error:
        again = f"if you know where it comes from: {pickle_line(source)}" if isinstance(source, Path) else SAVE_AGAIN
        raise NotAuditable(
            f"{name} is damaged, or was pickled without torch.save: its objects run code when loaded",
            again if head.startswith(PICKLE) else SAVE_AGAIN,
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError, OSError) as error:
        raise NotAuditable(f"{name} is damaged or no state dict", SAVE_AGAIN) from error
    if isinstance(content, (list, tuple)) and content and all(isinstance(value, Tensor) for value in content):
        return {"state": {str(i): value for i, value in enumerate(content)}, "in_order": True}
    said = stated(content)
    content, notes = _unwrapped(content, name)
    state = {str(key): value for key, value in content.items() if isinstance(value, Tensor)} if content else {}
    if not state:
        objects = " beside Python objects, which run code when loaded" if unread else ""
        raise NotAuditable(f"{name} holds no named tensors{objects}", SAVE_AGAIN)
    return {"state": state, "notes": (*notes, *left_out(unread)), **said}


def _unwrapped(content: Any, name: str) -> tuple[Mapping[Any, Any] | None, tuple[str, ...]]:
    """Return the state dict inside a checkpoint, and which of several was taken."""
    notes: list[str] = []
    way = ""
    for _ in range(DEEPEST):
        if isinstance(content, (list, tuple)):
            content = dict(enumerate(content))
        if not isinstance(content, Mapping):
            return None, ()
        inside = [key for key in (*WRAPPERS, *AVERAGED) if isinstance(content.get(key), Mapping)]
        if not inside and not any(isinstance(value, Tensor) for value in content.values()):
            inside = _only(content, name, way)
            notes += [f"The weights are '{printable(str(key), 60)}' of the file." for key in inside]
        if not inside:
            break
        averaged = [key for key in inside if key in AVERAGED]
        if inside[0] in AVERAGED:
            notes.append(f"The weights are the averaged ones, '{inside[0]}': the checkpoint holds no others.")
        elif averaged:
            notes.append(f"The weights are '{inside[0]}'; the averaged copy '{averaged[0]}' was left out.")
        way += f"[{printable(repr(inside[0]), 60)}]"
        content = content[inside[0]]
    return (content if isinstance(content, Mapping) else None), tuple(notes)


def _only(content: Mapping[Any, Any], name: str, way: str) -> list[Any]:
    """Return the one entry that holds named tensors, under whatever name; what an optimiser keeps is none.

    `way` is how `content` was reached in the file, as Python spells it.

    Raises
    ------
    NotAuditable
        There are several.
    """
    found = [key for key, value in content.items() if _holds_tensors(value, set())]
    if len(found) > 1:
        shown = ", ".join(f"'{printable(str(key), 40)}'" for key in found[:SHOWN])
        raise NotAuditable(
            f"{name} holds {len(found)} sets of named tensors ({shown})",
            f"save one by itself: torch.save(torch.load(FILE){way}[{printable(repr(found[0]), 60)}], 'weights.pt')",
        )
    return found


def _holds_tensors(value: Any, seen: set[int], depth: int = DEEPEST) -> bool:
    """Tell whether a mapping holds tensors, itself or further inside; what was looked at before counts as without."""
    if not isinstance(value, (Mapping, list, tuple)) or "param_groups" in value or id(value) in seen or not depth:
        return False
    seen.add(id(value))
    if not isinstance(value, Mapping):
        return any(_holds_tensors(v, seen, depth - 1) for v in value)
    inside = list(value.values())
    return any(isinstance(v, Tensor) for v in inside) or any(_holds_tensors(v, seen, depth - 1) for v in inside)
