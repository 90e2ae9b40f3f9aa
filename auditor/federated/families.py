"""Defences whose strength is one number, from weak to strong: what `fl-audit defend` searches."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from auditor.errors import UsageError
from auditor.federated.defence import DEFENCES, AtServer, parse_all
from auditor.federated.frameworks import PRESETS, ClientTraining
from auditor.text import did_you_mean, printable

Specs = tuple[str, ...]
# Noise of a ten-thousandth of the update is seen by nothing, and of ten thousand times its size hides everything.
_LEAST_NOISE, _MOST_NOISE = 1e-4, 1e4
# Of a million entries one is left at the end.
_MOST_SPARSE = 1e6
# Behind one update there are no more clips than attacks are planned for.
_CLIENTS = (2.0, 4.0, 8.0, 16.0)
_MOST_CLIPS = 64.0
_EXPRESSIONS = ("exclude-regex", "nvflare-exclude-vars")
_SEVERAL = re.compile(r"\+(?=[a-z])")


@dataclass(frozen=True)
class BareSize:
    """How large updates are without defences: the smallest L2 norm of them, and their number of entries."""

    norm: float
    entries: int

    @property
    def root_mean_square(self) -> float:
        """Root mean square of the entries."""
        return self.norm / max(1, self.entries) ** 0.5


@dataclass(frozen=True)
class Family:
    """Settings of one kind of defence; a larger strength leaves less of an update.

    Attributes
    ----------
    strength
        What the number is, for people.
    specs
        The defences of a strength, as a user writes them.
    start, least, most
        Where a search begins and ends, on a logarithmic scale.
    ladder
        The only strengths there are, from weak to strong; empty for a scale.
    by_clients
        Whether the strength counts clients, whose clips all have to be found.
    """

    name: str
    strength: str
    specs: Callable[[float, BareSize], Specs]
    start: float = 1.0
    least: float = _LEAST_NOISE
    most: float = _MOST_NOISE
    ladder: tuple[float, ...] = ()
    by_clients: bool = False


_NOISE = "deviation of the noise over the root mean square of the update's entries"
_SPARSE = "entries for each one that is sent"
FAMILIES: tuple[Family, ...] = (
    Family("gaussian", _NOISE, lambda s, bare: (f"gaussian:{_short(s * bare.root_mean_square)}",)),
    # Laplace noise of scale b has a deviation of b sqrt(2).
    Family("laplace", _NOISE, lambda s, bare: (f"laplace:{_short(s * bare.root_mean_square / 2.0**0.5)}",)),
    Family(
        "clip+gaussian",
        _NOISE,
        lambda s, bare: (f"clip:{_short(bare.norm)}", f"gaussian:{_short(s * bare.root_mean_square)}"),
    ),
    Family("top-k", _SPARSE, lambda s, bare: (f"top-k:{_short(1.0 / s)}",), 10.0, 1.0, _MOST_SPARSE),
    Family("random-k", _SPARSE, lambda s, bare: (f"random-k:{_short(1.0 / s)}",), 10.0, 1.0, _MOST_SPARSE),
    Family("prune", _SPARSE, lambda s, bare: (f"prune:{1.0 - 1.0 / s:.9g}",), 10.0, 1.1, _MOST_SPARSE),
    Family(
        "quantise", "16 bits over the bits of an entry", lambda s, bare: (f"quantise:{round(16.0 / s)}",),
        ladder=(1.0, 2.0, 16.0 / 6.0, 4.0, 16.0 / 3.0, 8.0),
    ),
    Family("float16", "one setting", lambda s, bare: ("float16",), ladder=(1.0,)),
    Family("sign", "one setting", lambda s, bare: ("sign",), ladder=(1.0,)),
    Family(
        "clip", "norm of the update over the norm that is left", lambda s, bare: (f"clip:{_short(bare.norm / s)}",),
        ladder=(1.0, 10.0, 100.0),
    ),
    Family(
        "secure-aggregation", "clients whose average is seen", lambda s, bare: (f"secure-aggregation:{round(s)}",),
        ladder=_CLIENTS, by_clients=True,
    ),
)  # fmt: skip


def families(wanted: tuple[str, ...], training: ClientTraining) -> tuple[Family, ...]:
    """Return what is to be searched: all families, or those that are named; a whole SPEC is judged as it stands.

    Several defences that are used together are joined by a plus: `clip:1+gaussian:0.01`.

    Raises
    ------
    UsageError
        There is no such family or defence, or one is given twice.
    """
    if not wanted:
        return tuple(f for f in (_fitting(f, training) for f in FAMILIES) if f is not None)
    found = tuple(_family(text, training) for text in wanted)
    names = [family.name for family in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"--defence {printable(twice, 60)} is given twice", "name every defence once")
    return found


def _family(text: str, training: ClientTraining) -> Family:
    known = {family.name: family for family in FAMILIES}
    if text in known:
        fitting = _fitting(known[text], training)
        if fitting is None:
            raise UsageError(f"--defence {text}: two clients have too many clips", "give a smaller --batch")
        return fitting
    specs = _several(text)
    lone = next((spec for spec in specs if not _is_defence(spec)), None)
    if lone is not None:
        meant = did_you_mean(lone.partition(":")[0], {*known, *PRESETS, *_names()})
        raise UsageError(
            f"--defence {printable(lone, 60)} is unknown{meant}",
            f"name one of {', '.join(known)}, or a whole setting such as clip:1+gaussian:0.01",
        )
    parse_all(specs, training)
    return Family(text, "one setting", lambda s, bare: specs, ladder=(1.0,))


def _several(text: str) -> Specs:
    """Return defences that are joined by a plus; a regular expression has a plus of its own, and goes to the end."""
    parts = _SEVERAL.split(text)
    first = next((k for k, part in enumerate(parts) if part.partition(":")[0] in _EXPRESSIONS), len(parts) - 1)
    return (*parts[:first], "+".join(parts[first:]))


def _fitting(family: Family, training: ClientTraining) -> Family | None:
    """Return the family with as many clients as there may be clips; None where there may be no two."""
    if not family.by_clients:
        return family
    ladder = tuple(clients for clients in family.ladder if clients * training.clips <= _MOST_CLIPS)
    return replace(family, ladder=ladder) if ladder else None


def _is_defence(spec: str) -> bool:
    return spec.partition(":")[0] in {*_names(), *PRESETS}


def _names() -> set[str]:
    return {kind.name for kind in DEFENCES} | {AtServer.name}


def _short(value: float) -> str:
    """Return a number in three digits, as somebody would set it."""
    return f"{value:.3g}"
