"""The line of shell that takes the weights out of a file which can run code, for those who know where it comes from."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from auditor.text import printable

READERS: Mapping[str, str] = {
    "exported": "torch.export.load(sys.argv[1]).state_dict",
    "torchscript": "torch.jit.load(sys.argv[1]).state_dict()",
    "pickle": "getattr(x, 'state_dict', lambda: x)()",
}
# A pickle holds a module, or a checkpoint with a module or its state inside.
BEFORE: Mapping[str, str] = {
    "pickle": "x = torch.load(sys.argv[1], weights_only=False); "
    "x = x.get('state_dict', x.get('model', x)) if isinstance(x, dict) else x; "
}


def resave_line(path: Path, kind: str) -> str:
    """Return the line for a kind of `contents.Content`; empty where there is none.

    >>> resave_line(Path("a b.pt"), "torchscript").endswith("'weights.pt')\\" 'a b.pt'")
    True
    """
    if kind not in READERS:
        return ""
    code = f"import sys, torch; {BEFORE.get(kind, '')}torch.save({READERS[kind]}, 'weights.pt')"
    return f'python -c "{code}" {shlex.quote(printable(str(path), 200))}'


def pickle_line(path: Path) -> str:
    """Return the line for a file that pickle wrote without torch.

    >>> "'weights.pt')\\" 'a b.pkl'" in pickle_line(Path("a b.pkl"))
    True
    """
    code = "import pickle, sys, torch; torch.save(pickle.load(open(sys.argv[1], 'rb')), 'weights.pt')"
    return f'python -c "{code}" {shlex.quote(printable(str(path), 200))}, and give weights.pt to --weights'
