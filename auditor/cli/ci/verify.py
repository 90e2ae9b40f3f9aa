"""`fl-audit verify`: is a file as fl-audit wrote it?"""

import json
from dataclasses import asdict

import typer

from auditor.cli.screen import busy, unheard
from auditor.cli.signatures import takes_options
from auditor.verification.verify_options import VerifyOptions


@takes_options("verify")
def verify(options: VerifyOptions) -> None:
    """Compute again what can be computed again, and hold it against the file: results.json, a report, any output.

    Exits 0 if all holds, 1 if a number, word or picture was edited, 4 if that cannot be told.
    """
    with busy("verifying"):
        from auditor.results.reading import read_results
        from auditor.verification.conclusion import lines
        from auditor.verification.conclusion import verify as verified
        from auditor.verification.signing import public_key

        public = None if options.public_key is None else public_key(options.public_key)
        baseline = None if options.baseline is None else read_results(options.baseline)
        found = verified(options.file, options.results, public, baseline)
    with unheard():
        if options.json:
            told = {"word": found.word, "checks": [asdict(check) for check in found.checks]}
            typer.echo(json.dumps(told, indent=2))
        else:
            typer.echo("\n".join(lines(options.file, found)))
    raise typer.Exit(int(found.code))
