"""`fl-audit diff`: what changed between two audits."""

import json

import typer

from auditor.cli.screen import unheard
from auditor.cli.signatures import takes_options
from auditor.errors import ExitCode
from auditor.gate_options import DiffOptions


@takes_options("diff")
def diff(options: DiffOptions) -> None:
    """Tell what is new, worse, same, better or fixed in the later of two audits.

    Worse is what differs by more than repeats of one audit do. Exits 0, or 1 with --fail-on-regression.
    """
    from auditor.gate.judge import judge
    from auditor.gate.policy import Policy
    from auditor.report.ci.changes import change_lines
    from auditor.results.reading import read_results

    old, new = read_results(options.old), read_results(options.new)
    policy = Policy(fail_on="never", fail_on_regression=options.fail_on_regression, inconclusive="pass")
    judgement = judge(new, policy, old)
    with unheard():
        if options.json:
            typer.echo(json.dumps(judgement, indent=2, allow_nan=False))
        else:
            typer.echo("\n".join(change_lines(new, judgement)))
    raise typer.Exit(ExitCode(judgement["exit_code"]))
