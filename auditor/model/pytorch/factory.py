"""A user's own function, class or object that gives the network."""

import importlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from auditor.errors import NotAuditable, UsageError
from auditor.model.pytorch.arguments import check_arguments
from auditor.model.pytorch.built import Built
from auditor.model.pytorch.contract import stated
from auditor.model.pytorch.unwrapped import unwrapped
from auditor.model.sandbox.user_file import executed, in_a_line, settings_kept
from auditor.named_paths import no_module, not_defined
from auditor.text import printable

DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def from_factory(source: str, arguments: Mapping[str, Any]) -> Built:
    """Call what `path/file.py:name` or `package.module:name` names. The file or module is executed.

    Raises
    ------
    UsageError
        It is missing, raises, takes other arguments, or returns something else than a network.
    NotAuditable
        It returns a TorchScript module.
    """
    text, _, name = source.rpartition(":")
    shown = printable(source)
    with settings_kept(), importable(Path(text).resolve().parent if text.endswith(".py") else Path.cwd()):
        module = _imported(text)
        factory = _named(module, name, printable(Path(text).name))
        if isinstance(factory, nn.Module):
            raise UsageError(f"{shown} is a network, not a function", "name a function that returns it")
        if not callable(factory):
            raise UsageError(f"{shown} is not a function", "name a function that returns the model")
        check_arguments(shown, factory, arguments)
        try:
            network = factory(**arguments)
        except (Exception, SystemExit) as error:
            raise UsageError(f"{shown} raised {in_a_line(error)}", "call it in Python to see where") from error
    if not isinstance(network, nn.Module):
        raise UsageError(
            f"{shown} returned {printable(type(network).__name__)}, not a torch.nn.Module",
            "return the model itself from the factory",
        )
    if isinstance(network, torch.jit.ScriptModule):
        raise NotAuditable(
            f"{shown} returned a TorchScript module, whose layers cannot be watched",
            "return the nn.Module that it was made from",
        )
    inner, told = unwrapped(network)
    said, notes = stated((inner, network, factory), shown)
    return Built(inner, printable(name), origin="stated by the factory", notes=(*notes, *told), **said)


def _imported(text: str) -> ModuleType:
    if text.endswith(".py"):
        if not os.path.isfile(text):
            raise UsageError(f"there is no file {printable(text)}", "give path/file.py:factory")
        return executed(Path(text))
    shown = printable(text)
    if not DOTTED.fullmatch(text):
        raise UsageError(f"{shown} is neither a Python file nor a module", "give path/file.py:factory")
    try:
        return importlib.import_module(text)
    except ModuleNotFoundError as error:
        if error.name is not None and (text == error.name or text.startswith(error.name + ".")):
            raise no_module(text) from error
        raise UsageError(f"{shown} raised {in_a_line(error)}", "install what it imports") from error
    except (Exception, SystemExit) as error:
        raise UsageError(f"{shown} raised {in_a_line(error)}", "import it in Python to see where") from error


def _named(module: ModuleType, name: str, where: str) -> Any:
    factory = getattr(module, name, None)
    if factory is None:
        raise not_defined(where, name, vars(module))
    return factory


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Let modules in a folder be imported, as when Python runs there: the command itself does not see them."""
    place = os.fspath(folder)
    sys.path.insert(0, place)
    try:
        yield
    finally:
        sys.path.remove(place)
