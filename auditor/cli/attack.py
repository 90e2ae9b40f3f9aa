"""`fl-audit attack`: one attack on one clip, for experiments."""

import json
import warnings
from typing import Any

import typer

from auditor.cli.screen import busy, stderr
from auditor.cli.signatures import takes_options
from auditor.options import AttackFiles, AttackOptions
from auditor.values import shown


@takes_options("attack")
def attack(options: AttackOptions, files: AttackFiles) -> None:
    """Run one attack on one clip, and keep what it reconstructed.

    Writes frames, a lossless animation, a strip beside the true clip, arrays and result.json (docs/attack.md).

    Exits 0 when the attack ran, 2 when an option is wrong, 4 when the time did not hold the attack.

    Exits 3 when the model cannot be audited or the attack does not apply to it.
    """
    document = _run(options, files)
    if files.json:
        typer.echo(json.dumps(document, indent=2, allow_nan=False))
        return
    from auditor.report.attack import attack_summary

    typer.echo(attack_summary(document, shown(files.out)))


def _run(options: AttackOptions, files: AttackFiles) -> dict[str, Any]:
    """Check what can be checked at once, attack, and write the folder."""
    with busy("starting"):
        from auditor.cli.progress import progress_display
        from auditor.pipeline.documents.attack import attack_document
        from auditor.pipeline.single_attack.files import check_folder, write_folder
        from auditor.pipeline.single_attack.run import attack_one, check_words

    check_words(options)
    check_folder(files.out, overwrite=files.force)
    limit = options.max_time * (2.0 if options.diagnose else 1.0)
    with warnings.catch_warnings(), progress_display(stderr(), limit) as display:
        warnings.simplefilter("ignore")
        attacked = attack_one(options, display)
        document = attack_document(attacked)
        write_folder(attacked, document, files.out, overwrite=files.force)
    return document
