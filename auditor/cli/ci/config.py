"""`fl-audit config`: every option of a scan, with where it comes from."""

import json

import typer

from auditor.cli.screen import unheard
from auditor.cli.signatures import all_given, configuration_file, takes_options
from auditor.gate_options import ConfigurationOptions, ShownConfiguration
from auditor.text import printable


@takes_options("config")
def config(options: ShownConfiguration, where: ConfigurationOptions) -> None:
    """Print every option of a scan, its value and its origin: default, configuration file or variable."""
    from auditor.configuration.written import origins

    found = configuration_file({"config": where.config})
    rows = list(origins(all_given("scan", {"config": where.config})))
    with unheard():
        if options.json:
            told = {name: {"value": value, "origin": origin} for name, value, origin in rows}
            typer.echo(json.dumps(told, indent=2))
            return
        typer.echo(f"# {'no configuration file' if found is None else found.name}")
        for name, value, origin in rows:
            typer.echo(f"{name:<19} {printable(value, 60):<28} {origin}")
