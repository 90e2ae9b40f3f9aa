"""`fl-audit attack`: one attack on one clip, for experiments."""

import json
import warnings
from typing import Any

import typer

from auditor.cli.screen import starting, stderr
from auditor.cli.signatures import takes_options
from auditor.options import AttackOptions
from auditor.output_options import AttackFiles
from auditor.update_options import CapturedUpdate
from auditor.values import shown


@takes_options("attack")
def attack(options: AttackOptions, captured: CapturedUpdate, files: AttackFiles) -> None:
    """Run one attack on one clip, or on an update that was captured, and keep what it reconstructed.

    Writes frames, a lossless animation, a strip beside the true clip, arrays and result.json (docs/attack.md).

    With --update or --after nobody knows the clip: pictures and certificates, no scores (docs/captured.md).

    Exits 0 when the attack ran, 2 when an option or the update is wrong, 4 when the time did not hold the attack.

    Exits 3 when the model cannot be audited or the attack does not apply to it.
    """
    document = _run_captured(options, captured, files) if captured.given else _run(options, files)
    if files.json:
        typer.echo(json.dumps(document, indent=2, allow_nan=False))
        return
    from auditor.report.attack import attack_summary
    from auditor.report.updates.captured import captured_summary

    summary = captured_summary if captured.given else attack_summary
    typer.echo(summary(document, shown(files.out)))


def _run(options: AttackOptions, files: AttackFiles) -> dict[str, Any]:
    """Check what can be checked at once, attack, and write the folder."""
    with starting():
        from auditor.cli.progress import progress_display
        from auditor.pipeline.documents.attack import attack_document
        from auditor.pipeline.single_attack.files import check_folder, write_folder
        from auditor.pipeline.single_attack.run import attack_one, check_words
        from auditor.pipeline.single_attack.shown import beside_the_truth

    check_words(options)
    check_folder(files.out, overwrite=files.force)
    limit = options.max_time * (2.0 if options.diagnose else 1.0)
    with warnings.catch_warnings(), progress_display(stderr(), limit) as display:
        warnings.simplefilter("ignore")
        attacked = attack_one(options, display)
        document = attack_document(attacked)
        write_folder(beside_the_truth(attacked), document, files.out, overwrite=files.force)
    return document


def _run_captured(options: AttackOptions, captured: CapturedUpdate, files: AttackFiles) -> dict[str, Any]:
    """Check what can be checked at once, attack what the files hold, and write the folder."""
    with starting():
        from auditor.cli.progress import progress_display
        from auditor.pipeline.captured.attack import attack_captured, check_words
        from auditor.pipeline.documents.captured import captured_document
        from auditor.pipeline.single_attack.files import check_folder, write_folder
        from auditor.pipeline.single_attack.shown import alone

    check_words(captured, options)
    check_folder(files.out, overwrite=files.force)
    with warnings.catch_warnings(), progress_display(stderr(), options.max_time) as display:
        warnings.simplefilter("ignore")
        attacked = attack_captured(captured, options, display)
        document = captured_document(attacked)
        write_folder(alone(attacked), document, files.out, overwrite=files.force)
    return document
