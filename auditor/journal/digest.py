"""One digest of what a unit of work depends on: equal digests mean equal results."""

import hashlib
import json
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from auditor.journal.form import plain
from auditor.records import PublicModel

_KNOWN: WeakKeyDictionary[PublicModel, tuple[object, str]] = WeakKeyDictionary()


def digest_of(*parts: object) -> str:
    """Return a digest (hex) of records, plain values and tensors, to the last bit.

    Raises
    ------
    TypeError
        Something among them has no content that can be told, such as a function.
    """
    tensors: dict[str, Tensor] = {}
    form = [plain(part, tensors) for part in parts]
    digest = hashlib.sha256(json.dumps(form, sort_keys=True).encode())
    for tensor in tensors.values():
        digest.update(f"\x1f{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> Any:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else b""


def parameters_digest(model: PublicModel) -> str:
    """Return a digest of a model's parameters; told again only after one of them was changed in place."""
    state = tuple((name, p.data_ptr(), p._version) for name, p in model.named_parameters())
    known = _KNOWN.get(model)
    if known is None or known[0] != state:
        known = state, digest_of(dict(model.named_parameters()))
        _KNOWN[model] = known
    return known[1]


def rounded(seconds: float) -> str:
    """Return seconds of work as a digest takes them: counts that began elsewhere differ in their last bits."""
    return f"{seconds:.6g}"
