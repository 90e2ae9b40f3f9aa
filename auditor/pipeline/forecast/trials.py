"""Attacks that are begun while a scan is planned: whether they give up, and how long their work takes here."""

from contextlib import suppress

from auditor.attack import Attack
from auditor.pipeline.forecast.costs import suitable_clock
from auditor.pipeline.run_attack import run_attack
from auditor.records import Budget, Reconstruction, Skipped, View, record, work_of
from auditor.records.work import TooMuchWork, at_most


@record
class Trial:
    """How far an attack came in the work that it was given.

    Attributes
    ----------
    work, seconds
        Reference seconds, and seconds on this machine.
    ended
        What it returned; None where it would have gone on.
    """

    work: float
    seconds: float
    ended: Reconstruction | Skipped | None

    @property
    def gave_up(self) -> Skipped | None:
        """Why it reconstructs nothing; None where it does, or may."""
        return self.ended if isinstance(self.ended, Skipped) else None


def begin(attack: Attack, view: View, budget: Budget, seed: int, most: float) -> Trial:
    """Run an attack for `most` reference seconds; what it would do then is not known. A defect ends it as in a scan."""
    clock = suitable_clock(view.update.device)
    ended: list[Reconstruction | Skipped] = []

    def run() -> None:
        with suppress(TooMuchWork), at_most(most) as limit:
            made = run_attack(attack, view, budget, seed)
            ended.extend([] if limit.met else [made])

    began = clock()
    work = work_of(run)
    return Trial(work=work, seconds=clock() - began, ended=ended[0] if ended else None)
