"""`fl-audit study`: a grid of conditions, run with resume, and claims judged by it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import typer

from auditor.cli.screen import starting
from auditor.cli.signatures import takes_options
from auditor.errors import ExitCode, UsageError
from auditor.options import StudyFile, StudyOptions
from auditor.signals import raise_dropped
from auditor.text import printable
from auditor.values import shown

_FILES = ("study.json", "study.html", "study.pdf", "study.md")


@takes_options("study")
def study(file: StudyFile, options: StudyOptions) -> None:
    """Run a study: models x weights x references x enhancement x clips x seeds, and the claims it judges.

    Interrupt it anywhere: what is finished is kept in the folder, and the same command goes on.

    Exits 0 when every cell was measured, whatever the claims came to, 2 when the file is wrong, 4 when cells are
    missing, also for a model that cannot be audited: the report names it.
    """  # fmt: skip
    out = options.out
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {shown(out)} is a file", "name a folder")
    with starting():
        from auditor.study import lay_out, read_study

    described = read_study(file.file)
    options = replace(options, jobs=options.jobs or len(os.sched_getaffinity(0)))
    if file.plan:
        work, done = lay_out(described, options)
        for cell in work.cells:
            typer.echo(
                f"{printable(cell.name)}: {', '.join(cell.attacks)}"
                + (f"; {', '.join(cell.enhance)}" if cell.enhance else "")
            )
        typer.echo(
            f"{len(work.cells)} cells, {len(described.clips)} clips, {len(described.seeds)} seeds: "
            f"{len(work.units)} units and {len(work.trainings)} trainings, {done} of them done"
        )
        return
    results = _run(described, options)
    from auditor.report.study import study_summary, write_study

    for complaint in write_study(results, out, options.language or "en"):
        typer.echo(f"fl-audit: {complaint}", err=True)
    typer.echo(study_summary(results))
    typer.echo("\n".join(str(out / name) for name in (*_FILES, "tables", "figures") if (out / name).exists()))
    if results["missing"]["units"]:
        raise typer.Exit(ExitCode.INCONCLUSIVE)


def _run(described: Any, options: StudyOptions) -> dict[str, Any]:
    import warnings

    from auditor.study import study as run_study

    with warnings.catch_warnings(), _telling() as tell:
        warnings.simplefilter("ignore")
        return run_study(described, options, tell)


@contextmanager
def _telling() -> Iterator[Callable[[Any], None]]:
    """A bar with the time left on a terminal, a plain line a finished unit elsewhere."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from auditor.report.figures import duration

    console = Console(stderr=True)
    if not console.is_terminal:

        def line(p: Any) -> None:
            raise_dropped()
            left = "" if p.left is None else f", about {duration(p.left)} left"
            console.print(
                f"[{p.done}/{p.total}] {printable(p.title, 160)}{left}", markup=False, highlight=False, soft_wrap=True
            )

        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("{task.fields[left]}"))  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("study", total=None, left="")

        def bar(p: Any) -> None:
            raise_dropped()
            left = "" if p.left is None else f"about {duration(p.left)} left"
            progress.update(
                task, total=p.total, completed=p.done, description=escape(printable(p.title, 60)), left=left
            )

        yield bar
