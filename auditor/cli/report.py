"""`fl-audit report`: a report again, from its results."""

from pathlib import Path

import typer

from auditor.cli.signatures import takes_options
from auditor.cli.targets import DEFAULT_FILES, print_output, split, write_all
from auditor.errors import UsageError
from auditor.output_options import ReportOptions
from auditor.results.seal import UNSEALED
from auditor.text import printable


@takes_options("report")
def report(options: ReportOptions) -> None:
    """Render a report again from its results, without the model."""
    from auditor.report import check_outputs, read_results
    from auditor.report.study import write_study
    from auditor.results.reading import read_study

    results = options.results
    study_found = read_study(results)
    if study_found is not None:
        if options.output:
            raise UsageError("a study is rendered into a folder", "give --out instead of -o")
        folder = options.out or results.parent
        for complaint in write_study(study_found, folder):
            typer.echo(f"fl-audit: {printable(complaint, 400)}", err=True)
        typer.echo(str(folder / "study.html"))
        return
    found = read_results(results)
    if found.get(UNSEALED):
        told = "has no digest: whether it was edited cannot be told, and the report says so"
        typer.echo(f"fl-audit: {printable(str(results), 200)} {told}", err=True)
    targets, printed = split(options.output)
    if printed is not None and not targets and options.out is None:
        print_output(found, printed)
        return
    if options.out is not None or not targets:
        targets += [(options.out or results.parent) / name for name in DEFAULT_FILES[1:]]
    if any(_same(t, results) for t in targets):
        raise UsageError(
            f"-o {printable(str(results))} would overwrite the results it is made from", "name another file"
        )
    named = [path for path in options.output if path in targets]
    check_outputs(named)
    check_outputs(targets[len(named) :], "--out")
    write_all(found, targets, explicit=bool(named))
    if printed is not None:
        print_output(found, printed)
        return
    for target in targets:
        typer.echo(str(target))


def _same(a: Path, b: Path) -> bool:
    return a.resolve() == b.resolve()
