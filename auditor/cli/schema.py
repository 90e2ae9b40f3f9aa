"""`fl-audit schema`: the JSON Schema of a document."""

import importlib
import json

import typer

from auditor.cli.signatures import takes_options
from auditor.options import SchemaOptions


@takes_options("schema")
def schema(options: SchemaOptions) -> None:
    """Print the JSON Schema of what scan, attack, study or inspect writes."""
    schemas = importlib.import_module("auditor.results.schema")
    typer.echo(json.dumps(schemas.json_schema(options.what), indent=2))
