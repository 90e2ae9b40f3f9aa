"""`fl-audit list`: attacks, probe clips and presets."""

import typer

from auditor.cli.signatures import takes_options
from auditor.output_options import ListOptions


@takes_options("list")
def list_known(options: ListOptions) -> None:
    """List attacks, probe clips and presets."""
    from auditor.cli.catalogue import listing

    typer.echo(listing(options.what))
