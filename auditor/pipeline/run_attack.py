"""The one way to run an attack on an update: obstacle, inversion, outcome and defects, the same for every caller."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from auditor.attack import CLOSED_FORMS, Attack
from auditor.errors import is_out_of_memory
from auditor.federated import LocalClient
from auditor.journal import kept, parameters_digest, rounded
from auditor.pipeline.deep.memory import ran_out
from auditor.pipeline.progress import Display, Silent
from auditor.records import Budget, Defence, Outcome, Reconstruction, Skipped, View
from auditor.records.free_memory import return_free_memory

# What a defect of one attack may raise; being interrupted is not among them.
_DEFECTS = (RuntimeError, ValueError, LookupError, ArithmeticError, TypeError, AttributeError, AssertionError)


class _Late(Exception):
    """Carries why an attack may not begin any more out of what would be kept as its result."""

    def __init__(self, skipped: Skipped) -> None:
        super().__init__(skipped.reason)
        self.skipped = skipped


def obstacle(attack: Attack, view: View) -> str | None:
    """Say in one clause why an attack cannot apply to a view or would say nothing about it, or None when it can."""
    return unmet(attack, view.knowledge.defences) or attack.obstacle(view)


def unmet(attack: Attack, defences: Sequence[Defence]) -> str | None:
    """Say in one clause which defence an attack has no form for, so that its result would say nothing, or None."""
    unknown = next((defence for defence in defences if not attack.meets(defence)), None)
    return None if unknown is None else f"it does not know the defence {unknown}; its result would say nothing"


def run_attack(
    attack: Attack,
    view: View,
    budget: Budget,
    seed: int,
    display: Display | None = None,
    title: str = "",
    expected: float = 0.0,
    late: Callable[[], Skipped | None] = lambda: None,
) -> Reconstruction | Skipped:
    """Run an attack if it applies; one that breaks on this net does not cost the others' results.

    Parameters
    ----------
    display, title, expected
        Where progress is shown, as what, and the seconds that it may take; without a title the budget's own is used.
    late
        Says why it may not begin any more, if so; not asked where its result is there already.

    Returns
    -------
    What was reconstructed, or why nothing was: `not-applicable` for an obstacle, `failed` for a defect (counted and
    shown), or what the attack itself says.
    """
    try:
        reason = obstacle(attack, view)
        if reason is not None:
            return Skipped(stage="invert", what=attack.name, because="not-applicable", reason=reason)

        def invert() -> Reconstruction | Skipped:
            left_out = late()
            if left_out is not None:
                raise _Late(left_out)
            if not title:
                return attack.invert(view, budget, seed)
            with (display or Silent()).unit(title, expected) as progress:
                return attack.invert(view, replace(budget, progress=progress), seed)

        return kept("attack", partial(_depends_on, attack, view, budget, seed), invert)
    except _Late as left_out:
        return left_out.skipped
    except _DEFECTS as error:
        if is_out_of_memory(error):
            return ran_out(attack.name, error)
        first = (str(error).strip().splitlines() or [""])[0]
        return Skipped(
            stage="invert",
            what=attack.name,
            because="failed",
            reason=f"{type(error).__name__}: {first}",
            remedy="report this defect with the model",
        )
    finally:
        return_free_memory()


def _depends_on(attack: Attack, view: View, budget: Budget, seed: int) -> Sequence[object]:
    """All that the result of an attack depends on, besides the program."""
    client = view.client
    if not isinstance(client, LocalClient):
        raise TypeError(f"what a {type(client).__name__} computes cannot be told")
    return (
        attack, view.knowledge, view.update, view.target.sha256, view.target.input, view.target.classes,
        parameters_digest(client.model), client.configuration, rounded(budget.seconds), budget.steps,
        budget.checkpoints, seed,
    )  # fmt: skip


def solve(view: View, seconds: float, seed: int) -> Reconstruction | Skipped | None:
    """Return what the first closed form that reproduces the update makes of it; None where none does.

    Returns
    -------
    `Skipped` for a closed form that broke: that is told, rather than passed over.
    """
    for attack in CLOSED_FORMS:
        made = run_attack(attack, view, Budget(seconds=seconds, steps=1), seed)
        if isinstance(made, Skipped):
            if made.because == "failed":
                return made
        elif made.outcome is Outcome.SOLVED:
            return made
    return None
