"""What `fl-audit plan --json` prints: what a scan would do, how long it would take, and what would be left out."""

from auditor.results.attempts import Skipped
from auditor.results.declare import LongName, Name, Seconds, record

FORECAST = "fl-audit/plan/1"


@record
class PlannedPart:
    """One kind of part: how many runs, their work in reference seconds, and seconds on this machine.

    `side_by_side` tells whether its runs can be made by several processes.
    """

    stage: Name
    what: LongName
    runs: int
    work: Seconds
    seconds: Seconds
    side_by_side: bool


@record
class ForecastDocument:
    """A scan, planned.

    Attributes
    ----------
    seconds
        Of the whole scan with its report, on this machine if it is idle, with so many `jobs`.
    work
        Reference seconds of all parts.
    step
        Seconds of one step of gradient matching on this machine.
    memory, free_memory
        Bytes that the scan holds at its peak, and that are free for it.
    fits
        Whether memory holds everything that is planned.
    left_out
        What will not run, and why.
    """

    schema: Name
    model: LongName
    preset: Name
    jobs: int
    seconds: Seconds
    work: Seconds
    step: Seconds
    memory: int
    free_memory: int
    fits: bool
    parts: tuple[PlannedPart, ...]
    left_out: tuple[Skipped, ...]
