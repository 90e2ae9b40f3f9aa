"""`fl-audit filter`: the least epsilon of a filter of updates, as a black box."""

import json
import sys
from contextlib import redirect_stdout

import typer

from auditor.cli.screen import busy
from auditor.cli.signatures import takes_options
from auditor.errors import ExitCode
from auditor.filter_options import FilterFiles, FilterOptions


@takes_options("filter")
def examine(options: FilterOptions, files: FilterFiles) -> None:
    """Prove a lower bound on the epsilon of any filter of updates, from its outputs alone. The file is executed.

    The filter runs many times on an update, and on the same update with a canary. What tells the two samples apart
    bounds epsilon from below. Filters without noise, without clipping, or with noise on some tensors alone are named.

    Exits 0, 1 when a claimed epsilon is contradicted, 2 when an option is wrong or the filter raises.
    """
    with busy("running the filter"):
        from auditor.cli.filter_text import to_text
        from auditor.pipeline.defended.filter_audit import audit_filter
        from auditor.results.encode import document

        with redirect_stdout(sys.stderr):  # what the filter prints is no part of the result
            found = document(audit_filter(options))
    typer.echo(json.dumps(found, indent=2, allow_nan=False) if files.json else to_text(found))
    if found["contradicted"]:
        raise typer.Exit(ExitCode.GATE_FAILED)
