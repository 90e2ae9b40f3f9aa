"""Operators from the files that a user gave with `--onnx-ops`, for one load."""

import os
from collections.abc import Iterable
from pathlib import Path

from auditor.errors import UsageError
from auditor.model.onnx.operators.custom import declared
from auditor.model.onnx.operators.registry import Operator
from auditor.model.sandbox.user_file import executed
from auditor.text import printable

EXAMPLE = "declare operators as examples/onnx_operators.py does"


def read_operators(paths: Iterable[Path]) -> dict[tuple[str, str], Operator]:
    """Run the files and return what they declare; a later file replaces what an earlier one declared.

    Raises
    ------
    UsageError
        A file is missing, raises, or declares nothing.
    """
    found: dict[tuple[str, str], Operator] = {}
    for path in paths:
        shown = printable(str(path), 200)
        if not os.path.isfile(path):
            raise UsageError(f"there is no file {shown}", "give --onnx-ops a Python file")
        operators = declared(vars(executed(path, "give --onnx-ops a Python file")), printable(path.name, 100))
        if not operators:
            raise UsageError(f"{shown} declares no operator", EXAMPLE)
        found |= operators
    return found
