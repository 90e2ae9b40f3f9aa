"""`fl-audit report`: a report again, from its results."""

from functools import partial
from pathlib import Path
from typing import Any

import typer

from auditor.cli.signatures import takes_options
from auditor.cli.targets import DEFAULT_FILES, print_output, split, write_all
from auditor.document_options import DocumentOptions
from auditor.errors import UsageError
from auditor.output_formats import COMPARISON_FORMATS
from auditor.output_options import ReportOptions
from auditor.results.protection.seal import UNSEALED
from auditor.text import printable
from auditor.verification.verify_options import SigningOptions


@takes_options("report")
def report(options: ReportOptions, document: DocumentOptions, signing: SigningOptions) -> None:
    """Render a report again from its results, without the model."""
    from auditor.cli.ci.gating import signed_by
    from auditor.report import check_outputs, read_results
    from auditor.report.study import write_study
    from auditor.report.updates.defend import write_defend
    from auditor.results.reading import read_comparison, read_defend, read_study

    results = options.results
    compared = read_comparison(results)
    if compared is not None:
        _comparison(compared, options)
        return
    write_in = partial(write_study, language=document.language or "en")
    for read, write, name in ((read_study, write_in, "study"), (read_defend, write_defend, "defend")):
        found_again = read(results)
        if found_again is None:
            continue
        if options.output:
            raise UsageError(f"{name}.json is rendered into a folder", "give --out instead of -o")
        folder = options.out or results.parent
        for complaint in write(found_again, folder):
            typer.echo(f"fl-audit: {printable(complaint, 400)}", err=True)
        typer.echo(str(folder / f"{name}.html"))
        return
    held = read_results(results)
    if held.get(UNSEALED):
        told = "has no digest: whether it was edited cannot be told, and the report says so"
        typer.echo(f"fl-audit: {printable(str(results), 200)} {told}", err=True)
    found = signed_by(signing, document.added_to(held))
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


def _comparison(found: dict[str, Any], options: ReportOptions) -> None:
    """Render a comparison again: every format into a folder, or the files that are named."""
    from auditor.report.comparison import write_comparison

    folder = options.out or (None if options.output else options.results.parent)
    kinds = [suffix for suffix in COMPARISON_FORMATS if suffix != ".json"]
    targets = [*options.output, *([folder / f"comparison{suffix}" for suffix in kinds] if folder else [])]
    if any(_same(t, options.results) for t in targets):
        raise UsageError(
            f"-o {printable(str(options.results))} would overwrite the results it is made from", "name another file"
        )
    for complaint in write_comparison(found, targets):
        typer.echo(f"fl-audit: {printable(complaint, 400)}", err=True)
    for target in targets:
        typer.echo(str(target))


def _same(a: Path, b: Path) -> bool:
    return a.resolve() == b.resolve()
