"""`fl-audit compare`: several models under the same attacks, ordered by what leaks."""

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import typer

from auditor.cli.scale.side_by_side import side_by_side
from auditor.cli.screen import starting, stderr, unheard
from auditor.cli.signatures import takes_options
from auditor.cli.targets import check_targets, no_empty_folders
from auditor.cli.unfinished import finished, resuming, unfinished_folder
from auditor.comparison.options import ComparedModels, ComparisonFiles
from auditor.errors import UsageError
from auditor.options import ScanOptions
from auditor.output_formats import COMPARISON_FORMATS
from auditor.output_options import JobsOption
from auditor.text import printable

DEFAULT_FOLDER = Path("fl-audit-comparison")
_LONGEST_SLUG = 48


@takes_options("compare")
def compare(options: ScanOptions, models: ComparedModels, work: JobsOption, files: ComparisonFiles) -> None:
    """Audit several models in the same way and order them by what leaks; MODEL is the baseline.

    Every model meets the same clips, attacks, seeds and budget of work. Models whose intervals overlap are ties; a
    model is recommended where its interval lies below the baseline's.

    Exits 1 when any of them leaks at the --fail-on severity; 4 when the audit of one cannot tell.
    """
    from auditor.named_paths import check_source

    for other in models.others:
        check_source(other)
    folder = files.out or (None if files.output else DEFAULT_FOLDER)
    targets = _targets(files.output, folder)
    unfinished = unfinished_folder(targets, folder) if files.resume else None
    with no_empty_folders([*targets, *([folder / "audits" / "x"] if folder else [])]):
        with starting():
            from auditor.report.comparison import comparison_summary, write_comparison
            from auditor.report.outputs import UnwrittenError, check_outputs
        check_targets((), folder)
        # Whether files of these names could be written beside them: their own kinds are those of a comparison.
        check_outputs([path.with_name(f"{path.name}.json") for path in files.output])
        results = _run(options, models, work, files.quiet, folder, unfinished)
    code = results["gate"]["exit_code"]
    complaints: tuple[str, ...] = ()
    try:
        complaints = write_comparison(results, targets)
        finished(unfinished)
    except UnwrittenError as error:  # hours of work end in their order, whatever the disk says
        complaints, code = (str(error),), code if error.written else error.exit_code
    for complaint in complaints:
        stderr().print(f"fl-audit: {printable(complaint, 400)}", markup=False, highlight=False, soft_wrap=True)
    with unheard():
        if files.json:
            typer.echo(json.dumps(results, indent=1, allow_nan=False))
        elif files.quiet:
            typer.echo(printable(results["summary"], 600))
        else:
            typer.echo(comparison_summary(results))
            typer.echo("\n".join(["", *(str(path) for path in targets if path.exists())]))
    raise typer.Exit(code)


def _targets(output: Sequence[Path], folder: Path | None) -> list[Path]:
    """Return the files to write, each of a kind that a comparison has."""
    for path in output:
        if path.suffix.lower() not in COMPARISON_FORMATS:
            raise UsageError(
                f"cannot tell the kind of {printable(str(path))}",
                f"end its name in one of {', '.join(COMPARISON_FORMATS)}; a folder goes with --out",
            )
        if path.is_dir():
            raise UsageError(f"{printable(str(path))} is a folder", "name a file")
    whole = [] if folder is None else [folder / f"comparison{suffix}" for suffix in COMPARISON_FORMATS]
    return [*output, *whole]


def _run(
    options: ScanOptions,
    models: ComparedModels,
    work: JobsOption,
    quiet: bool,
    folder: Path | None,
    unfinished: Path | None,
) -> dict[str, Any]:
    with starting():
        from auditor.attack import PRESETS
        from auditor.cli.progress import progress_display
        from auditor.comparison.run import compare as run
        from auditor.pipeline import Silent

    seconds = options.max_time or PRESETS[options.preset].seconds
    shown = nullcontext(Silent()) if quiet else progress_display(stderr(), seconds * models.seeds * 2)
    with warnings.catch_warnings(), shown as display:
        # Deprecations inside libraries are for developers; everything a user must know is in the results.
        warnings.simplefilter("ignore")
        with resuming(unfinished, display.note) as parts, side_by_side(options, work, parts, display) as shared:
            return dict(run(options, models, shared, _kept_in(folder)).results)


def _kept_in(folder: Path | None) -> Callable[[str, int, Mapping[str, Any]], str]:
    """Return what writes each audit beside the comparison as it is done; without a folder nothing is kept."""

    def keep(name: str, seed: int, results: Mapping[str, Any]) -> str:
        if folder is None:
            return ""
        from auditor.report import write

        # Names of models may be anything; what is left of one tells it to people, the digest keeps two apart.
        slug = re.sub(r"[^A-Za-z0-9.]+", "-", name)[:_LONGEST_SLUG].strip("-.") or "model"
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:6]
        path = folder / "audits" / f"{slug}-{digest}-seed{seed}.json"
        write(results, [path])
        return f"audits/{path.name}"

    return keep
