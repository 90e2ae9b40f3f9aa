"""`fl-audit scan`: one audit, and its report."""

import warnings
from typing import Any

import typer

from auditor.cli.screen import busy, stderr, unheard
from auditor.cli.signatures import takes_options
from auditor.cli.targets import check_targets, no_empty_folders, targets_of, write_all
from auditor.gate_options import GateOptions
from auditor.options import ScanFiles, ScanOptions


@takes_options("scan")
def scan(options: ScanOptions, gate: GateOptions, files: ScanFiles) -> None:
    """Audit a model: attack its updates, score what leaks, write a report.

    Exits 1 when leakage of the --fail-on severity was demonstrated, or with --fail-on-regression anything is worse than
    in --baseline; 4 when the audit cannot tell.
    """
    targets, folder = targets_of(files.out, files.output)
    with busy("starting"):
        from rich.console import Console

        from auditor.cli.gating import baseline_of, judged, waivers_of
        from auditor.report import UnwrittenError, terminal_summary
        from auditor.report.ci.changes import change_lines

    with no_empty_folders(targets):
        check_targets(files.output, folder)
        baseline, waivers = baseline_of(gate, targets), waivers_of(gate)
        results = judged(_results(options), options.fail_on, gate, baseline, waivers)
    code, asked = results["judgement"]["exit_code"], baseline is not None or waivers
    unwritten: UnwrittenError | None = None
    try:
        write_all(results, targets, explicit=folder is None)
    except UnwrittenError as error:  # hours of work end in their verdict, whatever the disk says
        unwritten = error
    with unheard():
        terminal_summary(results, Console(), [t for t in targets if t.exists()])
        for line in change_lines(results, results["judgement"]) if asked else ():
            typer.echo(line)
    if unwritten is not None:
        typer.echo(f"fl-audit: {unwritten}", err=True)
        code = code if unwritten.written else unwritten.exit_code
    raise typer.Exit(code)


def _results(options: ScanOptions) -> dict[str, Any]:
    with busy("starting"):
        from auditor.attack import PRESETS
        from auditor.cli.progress import progress_display
        from auditor.pipeline import scan as run_scan

    limit = options.max_time or PRESETS[options.preset].seconds
    with warnings.catch_warnings(), progress_display(stderr(), limit) as display:
        # Deprecations inside libraries are for developers; everything a user must know is a note or in the results.
        warnings.simplefilter("ignore")
        return dict(run_scan(options, display).results)
