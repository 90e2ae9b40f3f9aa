"""Which parameters clients train, and therefore send."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from auditor.errors import UsageError
from auditor.records import Layer
from auditor.text import printable


def select_parameters(layers: Iterable[Layer], parameters: Sequence[str], patterns: Sequence[str]) -> tuple[str, ...]:
    """Return the parameters that match any glob, in the model's order.

    A pattern is tried on the parameter's own name (`head.weight`) and on its layer's name (`head`), because exporters
    rename parameters but seldom scopes.

    Raises
    ------
    UsageError
        A pattern matches nothing; the message suggests what it may have meant.
    """
    owner = {name: layer.name for layer in layers for name in layer.parameters}
    chosen: set[str] = set()
    for pattern in patterns:
        hits = {n for n in parameters if fnmatchcase(n, pattern) or fnmatchcase(owner.get(n, n), pattern)}
        if not hits:
            known = [*parameters, *dict.fromkeys(owner.values())]
            close = get_close_matches(pattern, known, n=3, cutoff=0.4) or known[:3]
            raise UsageError(
                f"--trainable {printable(pattern)} matches none of the {len(parameters)} parameters",
                f"names look like {', '.join(printable(c) for c in close)}",
            )
        chosen |= hits
    return tuple(name for name in parameters if name in chosen)
