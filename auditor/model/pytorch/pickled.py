"""Whole modules that torch.save pickled: reading one runs code, so only where the user trusts it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from auditor.errors import NotAuditable, UsageError
from auditor.model.pytorch.built import Built
from auditor.model.pytorch.contract import stated
from auditor.model.pytorch.factory import importable
from auditor.model.sandbox.user_file import in_a_line
from auditor.text import printable


def from_pickle(path: Path) -> Built:
    """Unpickle a module. This runs whatever the file says.

    Raises
    ------
    UsageError
        The classes it names cannot be imported here.
    NotAuditable
        It holds no module, or several.
    """
    shown = printable(path.name)
    try:
        with importable(Path.cwd()):
            content = torch.load(path, map_location="cpu", weights_only=False)
    except (AttributeError, ImportError) as error:
        raise UsageError(
            f"{shown} names a class that cannot be imported here ({in_a_line(error)})",
            "run from the folder that holds its code, or give path/file.py:factory with --weights",
        ) from error
    except Exception as error:
        raise NotAuditable(
            f"{shown} cannot be unpickled ({in_a_line(error)})", "save its state_dict instead"
        ) from error
    key, network = _module(content, shown)
    said, notes = stated((network,), shown)
    if key:
        notes = (*notes, f"The model is '{printable(key, 60)}' of the checkpoint.")
    return Built(network, printable(path.stem), origin="stated by the model", notes=notes, **said)


def _module(content: Any, shown: str) -> tuple[str, nn.Module]:
    """Return the one module in a pickle, and where in a checkpoint it lies."""
    if isinstance(content, nn.Module):
        return "", content
    inside = {str(k): v for k, v in content.items() if isinstance(v, nn.Module)} if isinstance(content, Mapping) else {}
    if len(inside) == 1:
        return next(iter(inside.items()))
    if inside:
        raise NotAuditable(
            f"{shown} holds {len(inside)} modules ({', '.join(printable(k, 40) for k in list(inside)[:5])})",
            "save the one that clients train by itself",
        )
    raise NotAuditable(
        f"{shown} holds {printable(type(content).__name__, 40)} and no module",
        "give path/file.py:factory, with the weights in --weights",
    )
