"""Who does the work of a scan: this process, or several side by side."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from auditor.options import ScanOptions
from auditor.output_options import WorkOptions


@contextmanager
def side_by_side(options: ScanOptions, work: WorkOptions, parts: Any, display: Any) -> Iterator[Any]:
    """Let processes make the parts of a scan while active, as the options say; yield the display to scan with.

    Parameters
    ----------
    parts
        The journal of the scan; without one (None) processes leave their parts in a folder that ends with the scan.
    """
    if work.jobs is None:
        yield display
        return
    from auditor.content_key import program_key
    from auditor.journal import journaling
    from auditor.pipeline.workers import Processes, check_device, working

    check_device(options.device)
    with ExitStack() as stack:
        if parts is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            parts = stack.enter_context(journaling(folder / "parts", program_key()))
        processes = Processes(parts, work.jobs)
        shared = stack.enter_context(processes.active(display))
        stack.enter_context(working(processes))
        yield shared
