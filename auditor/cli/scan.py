"""`fl-audit scan`: one audit, and its report."""

import warnings
from typing import Any

import typer

from auditor.cli.screen import stderr
from auditor.cli.signatures import takes_options
from auditor.cli.targets import no_empty_folders, targets_of, write_all
from auditor.options import ScanFiles, ScanOptions


@takes_options("scan")
def scan(options: ScanOptions, files: ScanFiles) -> None:
    """Audit a model: attack its updates, score what leaks, write a report.

    Exits 1 when leakage of the --fail-on severity was demonstrated, 4 when the audit cannot tell.
    """
    targets, folder = targets_of(files.out, files.output)
    from auditor.report import check_outputs, terminal_summary

    with no_empty_folders(targets):
        check_outputs(targets)
        results = _results(options)
    write_all(results, targets, explicit=folder is None)
    from rich.console import Console

    terminal_summary(results, Console(), [t for t in targets if t.exists()])
    raise typer.Exit(results["verdict"]["exit_code"])


def _results(options: ScanOptions) -> dict[str, Any]:
    from auditor.attack import PRESETS
    from auditor.cli.progress import progress_display
    from auditor.pipeline import scan as run_scan

    limit = options.max_time or PRESETS[options.preset].seconds
    with warnings.catch_warnings(), progress_display(stderr(), limit) as display:
        # Deprecations inside libraries are for developers; everything a user must know is a note or in the results.
        warnings.simplefilter("ignore")
        return dict(run_scan(options, display).results)
