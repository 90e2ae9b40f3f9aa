"""`fl-audit scan`: one audit, and its report."""

import time
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

import typer

from auditor.cli.scale.shard import make_share
from auditor.cli.scale.side_by_side import side_by_side
from auditor.cli.screen import starting, stderr, unheard
from auditor.cli.signatures import configuration_file, takes_options
from auditor.cli.targets import check_targets, no_empty_folders, print_output, split, targets_of, write_all
from auditor.cli.unfinished import finished, resuming, unfinished_folder
from auditor.document_options import DocumentOptions
from auditor.gate_options import ConfigurationOptions, GateOptions
from auditor.options import ScanOptions
from auditor.output_formats import to_stdout
from auditor.output_options import ScanFiles, WorkOptions
from auditor.verification.verify_options import SigningOptions


@takes_options("scan")
def scan(
    options: ScanOptions,
    gate: GateOptions,
    document: DocumentOptions,
    files: ScanFiles,
    work: WorkOptions,
    signing: SigningOptions,
    where: ConfigurationOptions,
) -> None:
    """Audit a model: attack its updates, score what leaks, write a report.

    Exits 1 when leakage of the --fail-on severity was demonstrated, or with --fail-on-regression anything is worse than
    in --baseline; 4 when the audit cannot tell.
    """
    if work.shard is None:
        audit(options, gate, document, files, work, signing, where)
    targets, folder = targets_of(files.out, files.output)
    make_share(options, work, unfinished_folder(targets, folder) if files.resume else None, files.quiet)


def audit(
    options: ScanOptions,
    gate: GateOptions,
    document: DocumentOptions,
    files: ScanFiles,
    work: WorkOptions,
    signing: SigningOptions,
    where: ConfigurationOptions,
) -> NoReturn:
    """Run a scan, or take its results in place, judge them, write and show the report, and exit with its code."""
    begun = time.monotonic()  # importing takes seconds of --max-time
    output, printed = split(files.output, files.json)
    targets, folder = targets_of(files.out, files.output)
    targets = [target for target in targets if not to_stdout(target)]
    unfinished = unfinished_folder(targets, folder) if files.resume else None
    with starting():
        from auditor.cli.ci.gating import baseline_of, check_key, judged, signed_by, waivers_of
        from auditor.cli.ci.reuse import outdated, reusable
        from auditor.content_key import content_key
        from auditor.report.outputs import UnwrittenError

    with no_empty_folders(targets):
        check_targets(output, folder)
        check_key(signing)
        baseline, waivers = baseline_of(gate, targets), waivers_of(gate)
        key = content_key(options)
        held = reusable(key, targets) if files.reuse else None
        found = _results(options, files.quiet, key, unfinished, work, begun) if held is None else held[1]
        configuration = configuration_file({"config": where.config})
        shown_in = None if configuration is None else configuration.path
        judgement = judged(document.added_to(found), options.fail_on, gate, baseline, waivers, shown_in)
        results = signed_by(signing, judgement)
    code = results["judgement"]["exit_code"]
    unwritten: UnwrittenError | None = None
    try:
        stale = targets if held is None else outdated(results, held, targets)
        write_all(results, stale, explicit=folder is None)
        if not found.get("machine_cuts"):  # what was left out may come with the same command
            finished(unfinished)
    except UnwrittenError as error:  # hours of work end in their verdict, whatever the disk says
        unwritten = error
    with unheard():
        _show(results, printed, files.quiet, [t for t in targets if t.exists()])
    if unwritten is not None:
        typer.echo(f"fl-audit: {unwritten}", err=True)
        code = code if unwritten.written else unwritten.exit_code
    raise typer.Exit(code)


def _show(results: dict[str, Any], printed: Path | None, quiet: bool, written: Sequence[Path]) -> None:
    """Print what was asked for: one output, one line, or the summary with what changed."""
    from rich.console import Console

    from auditor.report import terminal_summary
    from auditor.report.ci.changes import change_lines
    from auditor.report.ci.one_line import one_line

    judgement = results["judgement"]
    if printed is not None:
        print_output(results, printed)
        return
    if quiet:
        typer.echo(one_line(results, judgement))
        return
    terminal_summary(results, Console(), written)
    if judgement["baseline"] is not None or judgement["waivers"]:
        typer.echo("\n".join(("", *change_lines(results, judgement))))


def _results(
    options: ScanOptions, quiet: bool, key: str, unfinished: Path | None, work: WorkOptions, begun: float
) -> dict[str, Any]:
    with starting():
        from auditor.attack import PRESETS
        from auditor.cli.progress import progress_display
        from auditor.pipeline import Silent
        from auditor.pipeline import scan as run_scan
        from auditor.records.ceiling import timed_since

    limit = options.max_time or PRESETS[options.preset].seconds
    shown = nullcontext(Silent()) if quiet else progress_display(stderr(), limit)
    with warnings.catch_warnings(), shown as display:
        # Deprecations inside libraries are for developers; everything a user must know is a note or in the results.
        warnings.simplefilter("ignore")
        with (
            timed_since(begun),
            resuming(unfinished, display.note) as parts,
            side_by_side(options, work, parts, display) as shared,
        ):
            found = run_scan(options, shared).results
    return {**found, "tool": {**found["tool"], "key": key}}
