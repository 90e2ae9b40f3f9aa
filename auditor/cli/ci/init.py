"""`fl-audit init`: a commented configuration to begin with."""

import typer

from auditor.cli.signatures import takes_options
from auditor.errors import UsageError
from auditor.gate_options import InitOptions
from auditor.text import printable


@takes_options("init")
def init(options: InitOptions) -> None:
    """Write a configuration file in which every option is explained and left out, but for the model."""
    from auditor.configuration.written import commented
    from auditor.report.atomic import replace_file

    path = printable(str(options.out), 300)
    if options.out.is_dir():
        raise UsageError(f"{path} is a folder", "name a file")
    if options.out.exists() and not options.force:
        raise UsageError(f"{path} exists already", "add --force to replace it")
    replace_file(options.out, commented(options.model).encode("utf-8"))
    typer.echo(f"wrote {path}; next: fl-audit config, then fl-audit scan")
