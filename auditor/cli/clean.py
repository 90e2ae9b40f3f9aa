"""`fl-audit clean`: what interrupted audits left."""

from auditor.cli.screen import unheard
from auditor.cli.signatures import takes_options
from auditor.cli.unfinished import kept_in
from auditor.output_options import CleanOptions
from auditor.text import printable


@takes_options("clean")
def clean(options: CleanOptions) -> None:
    """Remove what interrupted audits keep in a report folder to go on from; reports stay as they are.

    Exits 2 where an audit is at work there.
    """
    import typer

    folders = kept_in(options.folder)
    gone = []
    if folders:
        from auditor.journal import clear

        gone = [folder for folder in folders if clear(folder)]
    with unheard():
        for folder in gone:
            typer.echo(f"removed {printable(str(folder))}")
        for folder in folders:
            if folder not in gone:
                typer.echo(f"{printable(str(folder))} stays: it holds files that are no part of an audit")
        if not folders:
            typer.echo(f"nothing was left in {printable(str(options.folder))}")
