"""`fl-audit replay`: does the audit simulate what a client really sends?"""

import json
import warnings

import typer

from auditor.cli.screen import starting, stderr
from auditor.cli.signatures import takes_options
from auditor.errors import ExitCode
from auditor.options import ClientOptions
from auditor.update_options import CapturedUpdate, ReplayedClip


@takes_options("replay")
def replay(options: ClientOptions, captured: CapturedUpdate, clip: ReplayedClip) -> None:
    """Compare an update that a client computed from a known clip with the one that an audit simulates.

    Where the two differ, causes are fitted one by one, and the best is named first (docs/captured.md).

    Exits 0 when the two agree, 1 when they differ, 2 when an option or the update is wrong.

    Exits 3 when the model cannot be audited.
    """
    with starting():
        from auditor.cli.progress import progress_display
        from auditor.pipeline.captured.replay import check_words
        from auditor.pipeline.captured.replay import replay as compare
        from auditor.pipeline.documents.replay import replay_document
        from auditor.report.updates.replay import replay_summary

    check_words(captured, clip, options)
    with warnings.catch_warnings(), progress_display(stderr(), 0.0) as display:
        warnings.simplefilter("ignore")
        found = compare(captured, clip, options, display)
    document = replay_document(found)
    typer.echo(json.dumps(document, indent=2, allow_nan=False) if clip.json else replay_summary(document))
    raise typer.Exit(ExitCode.GATE_SATISFIED if found.agrees else ExitCode.GATE_FAILED)
