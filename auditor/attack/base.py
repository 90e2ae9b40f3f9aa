"""What every attack is: a name, a source, a condition, and a way from a view to a reconstruction."""

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import ClassVar, Concatenate, ParamSpec, TypeVar

from auditor.attack.certificate import residual
from auditor.attack.cost import LEAST_STEPS, AttackCost
from auditor.records import (
    Budget,
    Clips,
    Defence,
    Effect,
    Label,
    Reconstruction,
    Skipped,
    TrainingStep,
    View,
    counting,
    placed,
)
from auditor.results.model import Determinacy

# Left-out parameters and sums over clients are part of the client that every attack simulates.
IN_CLIENT: frozenset[Effect] = frozenset({"omission", "sum"})
# An attack that follows directions of gradients needs no size: they survive a scale that nobody knows.
ANY_SIZE: frozenset[Effect] = IN_CLIENT | {"scale"}
# Methods of attacks that may make tensors.
_READ_A_VIEW = frozenset({"invert", "obstacle", "measure", "work", "needless", "memory"})

P = ParamSpec("P")
R = TypeVar("R")


def _where_the_update_is(
    method: Callable[Concatenate["Attack", View, P], R],
) -> Callable[Concatenate["Attack", View, P], R]:
    @wraps(method)
    def on_device(self: "Attack", view: View, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with placed(view.update.device):
            return method(self, view, *args, **kwargs)

    return on_device


@dataclass(frozen=True, kw_only=True)
class Attack(abc.ABC):
    """An attack on one update; its `repr` is its whole configuration.

    Attributes
    ----------
    name
        Stable identifier, used in fingerprints.
    title
        For people.
    source
        Paper and equation.
    closed_form
        True when it needs no optimiser: costs seconds and runs first.
    succeeds
        Name of the attack that tells an audit nothing more where this one reconstructed a clip.
    knows
        What of defences the attack is made for, by what they leave of an update; see `meets`.
    """

    knows: ClassVar[frozenset[Effect]] = IN_CLIENT

    name: str
    title: str
    source: str
    closed_form: bool = False
    succeeds: str = ""

    def __init_subclass__(cls) -> None:
        """Count the work of every inversion, whoever asks for it, and make its tensors where the update is."""
        super().__init_subclass__()
        for name in _READ_A_VIEW & vars(cls).keys():
            setattr(cls, name, _where_the_update_is(vars(cls)[name]))
        if "invert" in vars(cls):
            cls.invert = counting()(cls.invert)  # type: ignore[method-assign]

    @property
    def family(self) -> str:
        """The kind of attack: the folder of its class, as closed-form, recursion, matching or features."""
        places = (kind.__module__.split(".") for kind in type(self).__mro__)
        return next(place[2].replace("_", "-") for place in places if place[:2] == ["auditor", "attack"])

    @property
    def frames_of_scene(self) -> int:
        """How many frames of the scene this attacker holds at most: 0 for R0, 1 for R1, more for Rk."""
        return 0

    @property
    def least_steps(self) -> int:
        """Work of a whole run below which it proves nothing, in steps of gradient matching."""
        return LEAST_STEPS

    def steps_at_most(self, each: int) -> int:
        """Count the steps of a whole run where the budget allows so many of each descent."""
        return each

    def meets(self, defence: Defence) -> bool:
        """Tell whether the attack reads updates as this defence leaves them; else its result would say nothing."""
        return defence.effect in self.knows

    @abc.abstractmethod
    def obstacle(self, view: View) -> str | None:
        """Say in one clause why the attack cannot apply to this view, or None when it can."""

    def work(self, view: View, layers: Sequence[Determinacy]) -> AttackCost | None:
        """Count what one run computes, from shapes; None where it costs seconds, or steps of gradient matching.

        `layers` are equations and unknowns of every layer, in the order of the forward pass.
        """
        return None

    def memory(self, view: View, step: TrainingStep, clips: int) -> int:
        """Count the bytes that a step of it takes at its peak, where one simulation of the client holds so many clips.

        Of most attacks it is a step of gradient matching.
        """
        return step.matching_bytes(clips)

    def needless(self, view: View) -> str | None:
        """Say in one clause which attack of a battery does all of this one's work, or None: only audits ask."""
        return None

    @abc.abstractmethod
    def invert(self, view: View, budget: Budget, seed: int) -> Reconstruction | Skipped:
        """Reconstruct the clips behind `view.update`, using nothing but the view.

        `Skipped` is for what only turns up on the way; `obstacle` has been asked before.
        """

    def measure(self, view: View, clips: Clips, labels: tuple[Label, ...]) -> float | None:
        """Return the attacker's own objective of any clips: what `invert` reports for those that it returns.

        Unless an attack has another: how far their update is from the one observed, relative to its norm. None where
        the objective depends on more than the clips, such as a surrogate that is searched along with them.
        """
        return residual(view, clips, labels)


def skipped(attack: Attack, reason: str, remedy: str = "") -> Skipped:
    """Return the value that stands for an attack that does not apply."""
    return Skipped(stage="invert", what=attack.name, because="not-applicable", reason=reason, remedy=remedy)
