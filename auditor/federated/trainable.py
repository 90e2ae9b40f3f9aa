"""Which parameters clients train, and therefore send."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from glob import escape

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


def patterns_of(layers: Sequence[Layer], parameters: Sequence[str], chosen: Sequence[str]) -> tuple[str, ...]:
    """Return few globs that select the chosen parameters and no others: what `select_parameters` undoes.

    A scope is named as a whole where all parameters below it are chosen, a layer by its parameters where not.
    """
    wanted = frozenset(chosen)

    def below(names: Sequence[str], depth: int) -> list[str]:
        made: list[str] = []
        for head, mine in _scopes(names, depth).items():
            whole = (f"{escape(head)}.*",)
            if len(mine) == 1 and mine[0] == head:
                made += [escape(head)] if head in wanted else []
            elif wanted.issuperset(mine) and set(select_parameters(layers, parameters, whole)) == set(mine):
                made += whole
            else:
                made += below(mine, depth + 1)
        return made

    if wanted.issuperset(parameters):
        return ("*",)
    return tuple(below([n for n in parameters if n], 1))


def _scopes(names: Sequence[str], depth: int) -> Mapping[str, list[str]]:
    """Group names by their first parts, so many of them; a name with no more parts stands by itself."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(".".join(name.split(".")[:depth]), []).append(name)
    return found
