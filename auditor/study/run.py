"""One study, from its file to results."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

from auditor.pipeline.scan import choose_device
from auditor.records import record
from auditor.study.cells import Work, work_of
from auditor.study.journal import Journal
from auditor.study.plan import Study
from auditor.study.results import study_results
from auditor.study.runner import Progress, run_work


@record
class StudyOptions:
    """What the user asked of a study.

    Attributes
    ----------
    folder
        Where finished units are kept, and found again.
    jobs
        Processes at a time, one thread each.
    max_time
        Seconds after which no unit begins; None for no limit.
    """

    preset: str = "fast"
    folder: Path = Path("fl-audit-study")
    jobs: int = 1
    device: str = "auto"
    max_time: float | None = None
    command: tuple[str, ...] = ()


def lay_out(plan: Study, options: StudyOptions) -> tuple[Work, int]:
    """Return the work of a study, and how much of it is done already."""
    work = work_of(plan, options.preset, choose_device(options.device).type)
    journal = Journal(options.folder / "units")
    return work, sum(journal.read(key) is not None for key in work.keys)


def study(plan: Study, options: StudyOptions, tell: Callable[[Progress], None]) -> dict[str, Any]:
    """Run what is not done yet and return the results of everything.

    Raises
    ------
    UsageError, NotAuditable
        The file, a model or an option is wrong.
    AuditError
        A process was ended from outside.
    """
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    device = choose_device(options.device)
    work = work_of(plan, options.preset, device.type)
    journal = Journal(options.folder / "units")
    journal.check()
    ran = run_work(
        plan,
        work,
        plan.efforts[options.preset],
        journal,
        jobs=options.jobs,
        device=device,
        max_time=options.max_time,
        tell=tell,
    )
    return study_results(plan, work, options.preset, journal, ran, command=options.command, started=started)
