"""Every defence that a client may be told to use, by what the user writes for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from auditor.errors import UsageError
from auditor.federated.aggregation import PerClip, SecureAggregation
from auditor.federated.clipping import Clamp, ClipNorm
from auditor.federated.codebooks import Blockwise, Clusters, SparseTernary
from auditor.federated.compression import Float16, Quantise, Sign, TopK, Unchanged
from auditor.federated.frameworks import PRESETS, ClientTraining, expanded
from auditor.federated.noise import GaussianNoise, LaplaceNoise, RelativeGaussian
from auditor.federated.rotated_quantisation import Eden
from auditor.federated.sparse_vector import SparseVector
from auditor.federated.sparsification import Exclude, ExcludeRegex, Prune, RandomK
from auditor.federated.stochastic_rounding import FixedPoint, Qsgd
from auditor.records import Defence, Effect, Place
from auditor.text import did_you_mean, printable

DEFENCES: tuple[type[Defence], ...] = (
    ClipNorm,
    Clamp,
    GaussianNoise,
    LaplaceNoise,
    RelativeGaussian,
    TopK,
    RandomK,
    Prune,
    SparseVector,
    Exclude,
    ExcludeRegex,
    Sign,
    Quantise,
    Float16,
    SparseTernary,
    Clusters,
    Blockwise,
    FixedPoint,
    Qsgd,
    Eden,
    Unchanged,
    PerClip,
    SecureAggregation,
)


@dataclass(frozen=True)
class AtServer(Defence):
    """A defence that the server applies after averaging: an honest one has seen every update without it by then."""

    name: ClassVar[str] = "server"
    form: ClassVar[str] = "server:SPEC, what the server does after averaging"
    effect: ClassVar[Effect] = "omission"
    defence: Defence
    acts: Place = "server"

    @classmethod
    def of(cls, number: str) -> Self:
        """Return a defence at the server."""
        return cls(parse(number))

    @property
    def told(self) -> str:
        """What it does."""
        return f"{self.defence.told}, by the server after averaging: who sees an update sees it without that"

    def apply(self, update: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the update as it is: what the server does comes later."""
        return dict(update)

    def simulate(self, ours: Mapping[str, Tensor], sent: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return ours as they are."""
        return dict(ours)

    def __str__(self) -> str:
        return f"{self.name}:{self.defence}"


def parse(written: str) -> Defence:
    """Return the defence that a text stands for, such as "top-k:0.1", or "server:gaussian:0.1" after averaging.

    Raises
    ------
    UsageError
        There is no such defence, or its number is out of range.
    """
    name, _, number = written.partition(":")
    if name == AtServer.name:
        return _at_server(written, number)
    found = next((kind for kind in DEFENCES if kind.name == name), None)
    if found is None:
        forms = ", ".join(kind.form.partition(" ")[0].rstrip(",") for kind in DEFENCES)
        others = f"use {forms}, or a framework's: {', '.join(PRESETS)}"
        meant = did_you_mean(name, {kind.name for kind in DEFENCES} | {AtServer.name} | set(PRESETS))
        raise UsageError(f"--defence {printable(written, 40)} is unknown{meant}", others)
    try:
        return found.of(number)
    except ValueError as error:
        raise UsageError(f"--defence {printable(written, 40)} cannot be read", f"use {found.form}") from error


def _at_server(written: str, number: str) -> AtServer:
    name = number.partition(":")[0]
    if name in {*PRESETS, AtServer.name, *(kind.name for kind in DEFENCES if kind.effect == "sum")}:
        raise UsageError(
            f"--defence {printable(written, 40)} says no single thing that a server does",
            f"give {name} without {AtServer.name}:, which says itself where it acts",
        )
    return AtServer.of(number)


def _parts(spec: str, training: ClientTraining) -> tuple[Defence, ...]:
    """Return what a text stands for: several defences for a framework's."""
    made: list[Defence] = []
    for part in expanded((spec,), training):
        try:
            made.append(parse(part))
        except UsageError as error:
            if part == spec:
                raise
            raise UsageError(
                f"--defence {printable(spec, 60)} amounts to {printable(part, 40)}, which is out of range", error.remedy
            ) from error
    return tuple(made)


def parse_all(specs: Sequence[str], training: ClientTraining | None = None) -> tuple[Defence, ...]:
    """Return the defences of a client in their order; a framework's are replaced by what they are made of.

    Raises
    ------
    UsageError
        One of them is unknown or out of range, or updates are added up more than once.
    """
    defences = tuple(d for spec in specs for d in _parts(spec, training or ClientTraining()))
    if sum(d.effect == "sum" for d in defences) > 1:
        raise UsageError(
            "--defence adds updates up more than once",
            "give one of secure-aggregation, per-clip and what is made of them, with all clients of the sum",
        )
    return defences


def clients_of(defences: Sequence[Defence]) -> int:
    """Return how many clients' updates, or clips' gradients, are treated by themselves and seen as one."""
    return next((d.clients for d in defences if isinstance(d, SecureAggregation)), 1)


def clips_behind(defences: Sequence[Defence], batch: int) -> int:
    """Return how many clips are behind what is seen, where a client has `batch`."""
    return batch if any(isinstance(d, PerClip) for d in defences) else batch * clients_of(defences)


def kept_back(defences: Sequence[Defence], names: Sequence[str]) -> tuple[str, ...]:
    """Return the parameters of these names that clients train and do not send.

    Raises
    ------
    UsageError
        Nothing is called as one of the defences says: it would leave everything in.
    """
    excluding = [d for d in defences if isinstance(d, Exclude)]
    idle = next((d for d in excluding if not any(d.matches(name) for name in names)), None)
    if idle is not None:
        shown = ", ".join(printable(name, 40) for name in names[:3])
        raise UsageError(
            f"--defence {printable(str(idle), 60)} matches no parameter that is trained",
            f"names are such as {shown}; `inspect` lists them",
        )
    return tuple(name for name in names if any(d.matches(name) for d in excluding))


def defend(
    defences: Sequence[Defence], update: Mapping[str, Tensor], generator: torch.Generator
) -> Mapping[str, Tensor]:
    """Return what is sent in place of an update: every defence in turn, on what the one before it leaves."""
    for defence in defences:
        update = defence.apply(update, generator)
    return update
