"""`fl-audit clean`: what interrupted audits left."""

from auditor.cli.screen import unheard
from auditor.cli.signatures import takes_options
from auditor.cli.unfinished import kept_in
from auditor.output_options import CleanOptions
from auditor.text import printable


@takes_options("clean")
def clean(options: CleanOptions) -> None:
    """Remove what interrupted audits keep in a report folder to go on from; reports stay as they are."""
    import typer

    folders = kept_in(options.folder)
    if folders:
        from auditor.journal import clear

        for folder in folders:
            clear(folder)
    with unheard():
        for folder in folders:
            typer.echo(f"removed {printable(str(folder))}")
        if not folders:
            typer.echo(f"nothing was left in {printable(str(options.folder))}")
