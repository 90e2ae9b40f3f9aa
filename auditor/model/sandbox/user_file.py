"""Running a Python file that the user named: a factory of models, a loss, operators of their own."""

import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import torch

from auditor.errors import UsageError
from auditor.text import printable


def executed(path: Path, remedy: str = "give path/file.py:factory") -> ModuleType:
    """Run a Python file and return its module; files beside it can be imported while it runs.

    Raises
    ------
    UsageError
        The file is no Python file (the remedy is the caller's), or raises.
    """
    alias = f"fl_audit_user_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(alias, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{printable(path.name)} is not a Python file", remedy)
    module = importlib.util.module_from_spec(spec)
    # dataclasses and pickling look their module up by name; its neighbours are importable while it runs
    sys.modules[alias] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[alias]
        raise UsageError(
            f"{printable(path.name)} raised {in_a_line(error)}", "run it in Python to see where"
        ) from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module


@contextmanager
def settings_kept() -> Iterator[None]:
    """Undo what code of a user sets for all of torch: whether there are gradients, and the precision of new tensors."""
    gradients, precision = torch.is_grad_enabled(), torch.get_default_dtype()
    try:
        yield
    finally:
        torch.set_grad_enabled(gradients)
        torch.set_default_dtype(precision)


def in_a_line(error: BaseException) -> str:
    """Return an exception's type and the first line of what it says."""
    return printable(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}".rstrip(": "))
