"""Shares of a scan that machines make by themselves, and what puts them together."""

import json
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from auditor.cli.scale.side_by_side import side_by_side
from auditor.cli.screen import starting, stderr, unheard
from auditor.cli.unfinished import kept_in, resuming
from auditor.errors import UsageError
from auditor.option_rules import options_from
from auditor.options import ScanOptions
from auditor.output_options import WorkOptions
from auditor.text import printable


def make_share(options: ScanOptions, work: WorkOptions, folder: Path | None, quiet: bool) -> None:
    """Make one shard of a scan into a folder of parts, and say what it made.

    Raises
    ------
    UsageError
        There is no folder that would hold the parts.
    """
    import typer

    assert work.shard is not None
    if folder is None:
        raise UsageError("--shard leaves parts and nothing else", "leave --no-resume out, and name a folder with --out")
    with starting():
        from auditor.attack import PRESETS
        from auditor.cli.progress import progress_display
        from auditor.pipeline import Silent
        from auditor.pipeline import scan as run_scan
        from auditor.pipeline.workers import ShareMade

    index, count = work.shard
    shown = (
        nullcontext(Silent())
        if quiet
        else progress_display(stderr(), options.max_time or PRESETS[options.preset].seconds)
    )
    told = "every part is there"
    with warnings.catch_warnings(), shown as display:
        warnings.simplefilter("ignore")
        with resuming(folder, display.note) as parts:
            write_origin(folder, options)
            try:
                with side_by_side(options, work, parts, display) as shared:
                    run_scan(options, shared)
            except ShareMade as made:
                told = f"{made.here} of the {made.all} parts that come first are there"
    with unheard():
        typer.echo(
            f"shard {index} of {count}: {told}, in {printable(str(folder.parent))}; fl-audit merge takes them up"
        )


def write_origin(folder: Path, options: ScanOptions) -> None:
    """Write into a folder of parts which scan they are of."""
    from auditor.content_key import program_key
    from auditor.journal.keeping import ORIGIN
    from auditor.report.atomic import replace_file

    told = {"program": program_key(), "options": plain_options(options)}
    replace_file(folder / ORIGIN, json.dumps(told, sort_keys=True).encode())


def put_together(folders: Sequence[Path], into: Path) -> ScanOptions:
    """Copy the parts of several folders into one, and return the options of the scan that they are of.

    Raises
    ------
    UsageError
        A folder holds no parts of a shard, two are of different scans, or another version of the program made them.
    """
    from auditor.content_key import program_key
    from auditor.journal import Journal

    found = [(folder, _parts_in(folder)) for folder in folders]
    origins = [_origin(folder, parts) for folder, parts in found]
    for (folder, _), origin in zip(found, origins, strict=True):
        if origin["options"] != origins[0]["options"]:
            raise UsageError(
                f"{printable(str(folder))} and {printable(str(folders[0]))} hold parts of different scans",
                "give every shard the same options, but for --shard, --out and --jobs",
            )
        if origin["program"] != program_key():
            raise UsageError(
                f"the parts in {printable(str(folder))} were made by another version of fl-audit or of its libraries",
                "merge with the version that made them, or make them again",
            )
    journal = Journal(into)
    journal.check()
    for _, parts in found:
        _copy(parts, journal)
    return options_from(ScanOptions, origins[0]["options"], command=())


def _parts_in(folder: Path) -> Path:
    held = [folder, *kept_in(folder)] if folder.is_dir() else []
    parts = next((path for path in held if _origin_file(path).is_file()), None)
    if parts is None:
        raise UsageError(
            f"{printable(str(folder))} holds no parts of a shard", "name the --out of fl-audit scan ... --shard I/N"
        )
    return parts


def _origin_file(parts: Path) -> Path:
    from auditor.journal.keeping import ORIGIN

    return parts / ORIGIN


def _origin(folder: Path, parts: Path) -> Mapping[str, Any]:
    try:
        told = json.loads(_origin_file(parts).read_text(encoding="utf-8"))
        return {"program": str(told["program"]), "options": dict(told["options"])}
    except (ValueError, LookupError, TypeError) as error:
        raise UsageError(
            f"what {printable(str(folder))} says of its scan is damaged", "make this shard again"
        ) from error


def _copy(parts: Path, journal: Any) -> None:
    """Copy what is missing; the JSON of a part goes last, which makes it whole."""
    from auditor.report.atomic import replace_file

    for told in sorted(parts.glob("*.json")):
        if journal.read(told.stem) is not None:
            continue
        tensors = told.with_suffix(".safetensors")
        if tensors.exists():
            replace_file(journal.folder / tensors.name, tensors.read_bytes())
        replace_file(journal.folder / told.name, told.read_bytes())


def plain_options(options: ScanOptions) -> dict[str, Any]:
    """Return what was given, as plain values that read as the same options again."""
    from auditor.declaring import options_of

    names = {option.name for option in options_of(ScanOptions)}
    held = json.loads(json.dumps(options.as_json(), default=str))
    return {name: value for name, value in held.items() if name in names and value not in (None, [], {}, "")}
