"""Who does the work of a scan: this process, or several side by side."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from auditor.errors import UsageError
from auditor.options import ScanOptions
from auditor.output_options import JobsOption, WorkOptions


@contextmanager
def side_by_side(options: ScanOptions, work: JobsOption, parts: Any, display: Any) -> Iterator[Any]:
    """Let processes make the parts of a scan while active, as the options say; yield the display to scan with.

    Parameters
    ----------
    parts
        The journal of the scan; without one (None) processes leave their parts in a folder that ends with the scan.
    """
    work = work if isinstance(work, WorkOptions) else WorkOptions(jobs=work.jobs)
    if work.engine is not None:
        from auditor.cli.scale.cluster import make_on_cluster

        if parts is None or work.shard is not None:
            raise UsageError("--engine makes shards by itself, in a folder", "leave --shard and --no-resume out")
        make_on_cluster(options, work.engine, work.jobs, parts.folder, display.note)
        yield display
        return
    from auditor.content_key import program_key
    from auditor.journal import journaling
    from auditor.pipeline.workers import Processes, Shard, Workers, check_device, shared_by_copies, working

    if work.jobs is not None:
        check_device(options.device)
    copies = shared_by_copies(options.device)
    if work.shard is None and not copies:
        yield display
        return

    with ExitStack() as stack:
        if parts is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            parts = stack.enter_context(journaling(folder / "parts", program_key()))
        workers: Workers | None = None
        if copies:
            workers = processes = Processes(parts, work.jobs)
            display = stack.enter_context(processes.active(display))
        if work.shard is not None:
            workers = Shard(parts, *work.shard, workers)
        stack.enter_context(working(workers))
        yield display
