"""Text from a model file is untrusted: make it inert before anyone sees it."""

import unicodedata

_CAP = 120


def printable(text: str, cap: int = _CAP) -> str:
    """Return `text` without control, format (bidi) and surrogate characters, at most `cap` characters long.

    The result is safe for a terminal; HTML escaping is the template's work.

    >>> printable("conv\\x1b[31m1\\u202e")
    'conv[31m1'
    """
    kept = "".join(c for c in text[: 8 * cap] if unicodedata.category(c)[0] != "C")
    return kept if len(kept) <= cap and len(text) <= 8 * cap else kept[: cap - 1] + "…"
