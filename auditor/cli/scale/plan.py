"""`fl-audit plan`: what a scan would take, before it begins."""

import json
import warnings

import typer

from auditor.cli.screen import busy, starting
from auditor.cli.signatures import takes_options
from auditor.options import ScanOptions
from auditor.output_options import PlanOptions


@takes_options("plan")
def plan(options: ScanOptions, how: PlanOptions) -> None:
    """Tell what a scan with the same options would do, how long it would take here, and what it would leave out.

    The model is loaded, a few of its steps are timed, and every attack is begun on one clip. Exits 0 where the scan can
    run.
    """
    with starting():
        from auditor.cli.scale.plan_text import forecast_view
        from auditor.pipeline.forecast import forecast

    with warnings.catch_warnings(), busy("loading the model and timing its steps"):
        warnings.simplefilter("ignore")
        found = forecast(options, how.jobs)
    if how.json:
        typer.echo(json.dumps(found, indent=1, allow_nan=False))
        return
    typer.echo(forecast_view(found))
