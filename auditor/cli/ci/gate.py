"""`fl-audit gate`: a policy on saved results."""

import typer

from auditor.cli.screen import unheard
from auditor.cli.signatures import takes_options
from auditor.cli.targets import check_targets, print_output, split, write_all
from auditor.errors import UsageError
from auditor.gate_options import GateFile, GateOptions
from auditor.text import printable
from auditor.verification.verify_options import SigningOptions


@takes_options("gate")
def gate(file: GateFile, options: GateOptions, signing: SigningOptions) -> None:
    """Apply a policy to saved results, without the model.

    Exits 1 when the gate fails on findings, 4 when the audit cannot tell and that is to fail.
    """
    from auditor.cli.ci.gating import baseline_of, judged, signed_by, waivers_of
    from auditor.report.ci.changes import change_lines
    from auditor.results.reading import read_results

    files, printed = split(file.output)
    if any(path.resolve() == file.results.resolve() for path in files):
        raise UsageError(f"-o {printable(str(file.results))} would overwrite the results", "name another file")
    check_targets(files, None)
    waivers, baseline = waivers_of(options), baseline_of(options, files)
    results = judged(read_results(file.results), file.fail_on, options, baseline, waivers)
    results = signed_by(signing, results)
    if files:
        write_all(results, files, explicit=True)
    with unheard():
        if printed is not None:
            print_output(results, printed)
        else:
            typer.echo("\n".join(change_lines(results, results["judgement"])))
    raise typer.Exit(results["judgement"]["exit_code"])
