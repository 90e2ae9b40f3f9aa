"""Text from a model file is untrusted: make it inert before anyone sees it."""

import difflib
import unicodedata
from collections.abc import Iterable, Mapping

_CAP = 120


def printable(text: str, cap: int = _CAP) -> str:
    """Return `text` without control, format (bidi) and surrogate characters, at most `cap` characters long.

    The result is safe for a terminal; HTML escaping is the template's work.

    >>> printable("conv\\x1b[31m1\\u202e")
    'conv[31m1'
    """
    kept = "".join(c for c in text[: 8 * cap] if unicodedata.category(c)[0] != "C")
    return kept if len(kept) <= cap and len(text) <= 8 * cap else kept[: cap - 1] + "…"


def distinct(names: Iterable[str], cap: int = _CAP) -> Mapping[str, str]:
    """Return what to show for each of several names: printable, and numbered where two would look the same.

    >>> distinct(["head", "head\\x1b", "head\\u202e"])
    {'head': 'head', 'head\\x1b': 'head (2)', 'head\\u202e': 'head (3)'}
    """
    shown: dict[str, str] = {}
    taken: set[str] = set()
    times: dict[str, int] = {}
    for name in names:
        if name in shown:
            continue
        plain = text = printable(name, cap)
        while text in taken:
            times[plain] = times.get(plain, 1) + 1
            text = f"{plain} ({times[plain]})"
        taken.add(text)
        shown[name] = text
    return shown


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean x?)` for the known name that is nearest, or nothing where none is near.

    >>> did_you_mean("momentun", ["loss", "momentum"])
    ' (did you mean momentum?)'
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""
