"""`fl-audit schema`: the JSON Schema of a document."""

import json

import typer

from auditor.cli.signatures import takes_options
from auditor.output_options import SchemaOptions


@takes_options("schema")
def schema(options: SchemaOptions) -> None:
    """Print the JSON Schema of what scan, attack, study or inspect writes."""
    from auditor.results.schema import json_schema

    typer.echo(json.dumps(json_schema(options.what), indent=2))
