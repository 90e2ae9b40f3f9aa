"""`fl-audit defend`: where the protection of every kind of defence begins on this model, and what it costs."""

import json
import warnings

import typer

from auditor.cli.screen import starting, stderr, unheard
from auditor.cli.signatures import takes_options
from auditor.cli.targets import no_empty_folders
from auditor.cli.unfinished import finished, resuming, unfinished_folder
from auditor.errors import ExitCode
from auditor.options import DefendOptions
from auditor.output_options import DefendFiles
from auditor.text import printable


@takes_options("defend")
def defend(options: DefendOptions, files: DefendFiles) -> None:
    """Find the weakest setting of every defence at which no attack finds a clip, and what it costs.

    Every setting is judged by the strongest attacks that know it, with null controls. What is recommended was measured
    on this model; where nothing is found without any defence, nothing is recommended.

    Exits 0 when every defence was judged, 2 when an option is wrong, 4 when the work did not hold all.

    Exits 3 when the model cannot be audited.
    """
    with starting():
        from auditor.cli.progress import progress_display
        from auditor.pipeline.documents.defend import defend_document
        from auditor.pipeline.protection.search import check_words
        from auditor.pipeline.protection.search import defend as search
        from auditor.report.updates.defend import FILES, check_defend_folder, defend_summary, write_defend

    check_words(options)
    check_defend_folder(files.out)
    unfinished = unfinished_folder((), files.out) if files.resume else None
    with no_empty_folders([files.out / FILES[0]]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with progress_display(stderr(), options.max_time) as display, resuming(unfinished, display.note):
            document = defend_document(search(options, display))
    for complaint in write_defend(document, files.out):
        typer.echo(f"fl-audit: {printable(complaint, 400)}", err=True)
    finished(unfinished)
    with unheard():
        if files.json:
            typer.echo(json.dumps(document, indent=2, allow_nan=False))
        else:
            typer.echo(defend_summary(document))
            typer.echo("\n".join(str(files.out / name) for name in FILES if (files.out / name).exists()))
    raise typer.Exit(_code(document))


def _code(document: dict[str, object]) -> ExitCode:
    families = document["families"]
    assert isinstance(families, list)
    return ExitCode.GATE_SATISFIED if all(f["told"] for f in families) else ExitCode.INCONCLUSIVE
