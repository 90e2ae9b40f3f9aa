"""One study, from its file to results."""

import datetime
from collections.abc import Callable
from typing import Any

from auditor.journal import alone
from auditor.journal.folder import Journal
from auditor.options import StudyOptions
from auditor.pipeline.scan import choose_device
from auditor.study.cells import Work, work_of
from auditor.study.plan import Study
from auditor.study.results import study_results
from auditor.study.runner import Progress, run_work


def lay_out(plan: Study, options: StudyOptions) -> tuple[Work, int]:
    """Return the work of a study, and how much of it is done already."""
    work = work_of(plan, options.preset, choose_device(options.device).type)
    journal = Journal(options.out / "units")
    return work, sum(journal.read(key) is not None for key in work.keys)


def study(plan: Study, options: StudyOptions, tell: Callable[[Progress], None]) -> dict[str, Any]:
    """Run what is not done yet and return the results of everything.

    Raises
    ------
    UsageError, NotAuditable
        The file, a model or an option is wrong, or another study is at work in the folder.
    AuditError
        A process was ended from outside.
    """
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    device = choose_device(options.device)
    work = work_of(plan, options.preset, device.type)
    journal = Journal(options.out / "units")
    journal.check()
    with alone(journal.folder):
        ran = run_work(
            plan,
            work,
            plan.efforts[options.preset],
            journal,
            jobs=options.jobs or 1,
            device=device,
            max_time=options.max_time,
            tell=tell,
        )
    return study_results(plan, work, options.preset, journal, ran, command=options.command, started=started)
