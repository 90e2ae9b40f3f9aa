"""`fl-audit inspect`: how a model is read, without attacking it."""

import json
import warnings
from pathlib import Path

import typer

from auditor.cli.screen import busy, starting
from auditor.cli.signatures import takes_options
from auditor.errors import UsageError
from auditor.options import InspectOptions
from auditor.output_options import InspectFiles
from auditor.text import printable


@takes_options("inspect")
def inspect_model(options: InspectOptions, files: InspectFiles) -> None:
    """Show how a model is read, and how faithfully, without attacking it.

    Layers, parameters, operators, checks of the import, the guessed input and loss, and what layers expose by their
    structure alone.

    Exits 0 when the model can be audited, 2 when an option is wrong, 3 when the model cannot be audited.
    """
    frame = files.frame
    if frame is not None and (frame.suffix.lower() != ".png" or frame.is_dir()):
        raise UsageError(f"--frame {printable(str(frame))} is not a PNG file", "name it FILE.png")
    with starting():
        from auditor.pipeline import Silent
        from auditor.pipeline.inspection import inspect

    with warnings.catch_warnings(), busy("loading and checking the model"):
        warnings.simplefilter("ignore")
        found = inspect(options, Silent())
    if frame is not None:
        _write_picture(frame, found.picture)
    if files.json:
        typer.echo(json.dumps(found.document, indent=2, allow_nan=False))
        return
    from rich.console import Console

    from auditor.report.inspection import inspection_view

    shown = "" if frame is None else str(frame)
    inspection_view(found.document, found.layers, found.target.name, Console(), everything=files.all, frame=shown)


def _write_picture(path: Path, content: bytes) -> None:
    from auditor.report.atomic import replace_file

    try:
        replace_file(path, content)
    except OSError as error:
        raise UsageError(
            f"cannot write {printable(str(path))} ({error.strerror or type(error).__name__})", "name another file"
        ) from error
