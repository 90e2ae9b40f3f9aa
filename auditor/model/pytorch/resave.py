"""The line of shell that takes the weights out of a file which can run code, for those who know where it comes from."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from auditor.text import printable

READERS: Mapping[str, str] = {
    "exported": "torch.export.load(sys.argv[1]).state_dict",
    "torchscript": "torch.jit.load(sys.argv[1]).state_dict()",
    "pickle": "torch.load(sys.argv[1], weights_only=False).state_dict()",
}


def resave_line(path: Path, kind: str) -> str:
    """Return the line for a kind of `contents.Content`; empty where there is none.

    >>> resave_line(Path("a b.pt"), "torchscript").endswith("'weights.pt')\\" 'a b.pt'")
    True
    """
    if kind not in READERS:
        return ""
    code = f"import sys, torch; torch.save({READERS[kind]}, 'weights.pt')"
    return f'python -c "{code}" {shlex.quote(printable(str(path), 200))}'
