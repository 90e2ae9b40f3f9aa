"""`fl-audit gate`: a policy on saved results."""

import typer

from auditor.cli.screen import unheard
from auditor.cli.signatures import takes_options
from auditor.gate_options import GateFile, GateOptions


@takes_options("gate")
def gate(file: GateFile, options: GateOptions) -> None:
    """Apply a policy to saved results, without the model.

    Exits 1 when the gate fails on findings, 4 when the audit cannot tell and that is to fail.
    """
    from auditor.cli.gating import baseline_of, judged, waivers_of
    from auditor.report.ci.changes import change_lines
    from auditor.results.reading import read_results

    waivers, baseline = waivers_of(options), baseline_of(options)
    results = judged(read_results(file.results), file.fail_on, options, baseline, waivers)
    with unheard():
        for line in change_lines(results, results["judgement"]):
            typer.echo(line)
    raise typer.Exit(results["judgement"]["exit_code"])
