"""Options of what commands write and print, and of who does the work: they change nothing that is found."""

from functools import partial
from pathlib import Path
from typing import Any

from auditor import terms
from auditor.declaring import REQUIRED, declaration, option
from auditor.output_formats import RESUME, REUSE, STDOUT, SUFFIXES
from auditor.terms import OUTPUT, WORK
from auditor.values import FilePath, Listed, PartOf, Switch, Text, Whole, one_of

_output = partial(option, panel=OUTPUT)
_work = partial(option, panel=WORK)


def resume_option() -> Any:
    """Return the option of every command that can go on where an earlier run of it was interrupted."""
    return _output(True, Switch(), "Keep finished parts, and go on after an interruption.", flags=(RESUME,))


@declaration
class ScanFiles:
    """What a scan writes."""

    out: Path | None = _output(
        None,
        FilePath("DIR"),
        "Folder for results.json, report.html and report.pdf.",
        default_words="fl-audit-report",
    )
    output: tuple[Path, ...] = _output(
        (),
        Listed(FilePath()),
        f"File to write ({' '.join(SUFFIXES)}); repeatable; replaces the folder unless --out is given too. {STDOUT}",
        flags=("-o",),
    )
    json: bool = _output(False, Switch(), "Print results.json and nothing else: as -o -, beside the folder.")
    quiet: bool = _output(False, Switch(), "Print one line, and no progress.")
    reuse: bool = _output(True, Switch(), "Take the results in place again if nothing changed.", flags=(REUSE,))
    resume: bool = resume_option()


@declaration
class JobsOption:
    """How many processes make the parts of audits, one thread each; None suits the network."""

    jobs: int | None = _work(
        None,
        Whole(1, 256),
        "Processes that attack side by side, one thread each; one that crashes costs its attack alone.",
        default_words="one a core for small networks, else none beside this one",
    )


@declaration
class WorkOptions(JobsOption):
    """Who makes the parts of a scan: `shard` is (which, of how many); with an `engine`, `jobs` are shards."""

    shard: tuple[int, int] | None = _work(
        None,
        PartOf(),
        "Make one share of the attacks and no report; fl-audit merge puts shares together.",
        default_words="all of them",
    )
    engine: str | None = _work(
        None,
        Text("ENGINE"),
        "Who makes shards: ray, or ray://HOST:PORT; --jobs says how many. Needs fl-audit[ray].",
        default_words="none",
    )


@declaration
class PlanOptions:
    """With how many processes a scan is planned, and what is printed."""

    jobs: int | None = _work(
        None, Whole(1, 256), "Processes that the scan would have, as its own --jobs.", default_words="as for scan"
    )
    json: bool = _output(False, Switch(), "Print JSON and nothing else.")


@declaration
class MergedShards:
    """Which shares are put together."""

    folders: tuple[Path, ...] = _work(REQUIRED, Listed(FilePath("DIR")), "Folders that shards wrote", argument=True)


@declaration
class AttackFiles:
    """What an attack writes."""

    out: Path = _output(Path("fl-audit-attack"), FilePath("DIR"), "Folder for results.", former=("output",))
    force: bool = _output(False, Switch(), "Replace the results of an earlier attack in that folder.")
    json: bool = _output(False, Switch(), "Print JSON and nothing else.")


@declaration
class DefendFiles:
    """What a search for protection writes."""

    out: Path = _output(
        Path("fl-audit-defend"), FilePath("DIR"), "Folder for defend.json, .html, .pdf and .md.", former=("output",)
    )
    json: bool = _output(False, Switch(), "Print JSON and nothing else, beside the folder.")
    resume: bool = resume_option()


@declaration
class InspectFiles:
    """What an inspection prints and writes."""

    json: bool = _output(False, Switch(), "Print JSON and nothing else.")
    frame: Path | None = _output(
        None,
        FilePath("FILE.png"),
        "Picture of a clip as the network reads it, which shows a wrong layout or normalisation.",
    )
    all: bool = _output(False, Switch(), "List every layer of a long model.")


@declaration
class ReportOptions:
    """Results that are rendered again."""

    results: Path = _output(REQUIRED, FilePath(), "results.json of a scan, or study.json of a study", argument=True)
    out: Path | None = _output(
        None, FilePath("DIR"), "Folder for report.html and report.pdf.", default_words="beside RESULTS"
    )
    output: tuple[Path, ...] = _output(
        (), Listed(FilePath()), f"File to write ({' '.join(SUFFIXES)}); repeatable. {STDOUT}", flags=("-o",)
    )


@declaration
class CleanOptions:
    """What is removed."""

    folder: Path = _output(Path("fl-audit-report"), FilePath("DIR"), "Report folder", argument=True)


@declaration
class ListOptions:
    """What is listed."""

    what: str = _output("all", one_of(terms.Listing), "attacks, probes, presets or all", argument=True)


@declaration
class SchemaOptions:
    """Which document is described."""

    what: str = _output("audit", one_of(terms.Document), "a document that fl-audit writes", argument=True)
