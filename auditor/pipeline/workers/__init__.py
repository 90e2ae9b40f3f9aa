"""Parts of an audit that are made side by side; whoever makes a part, its content decides what comes of it."""

from auditor.pipeline.workers.ahead import Task, Workers, begin_early, make_ahead, suit_workers, working
from auditor.pipeline.workers.count import check_device, processes_for, shared_by_copies
from auditor.pipeline.workers.processes import Processes
from auditor.pipeline.workers.shares import Shard, ShareMade

__all__ = [
    "Processes", "Shard", "ShareMade", "Task", "Workers", "begin_early", "check_device",
    "make_ahead", "processes_for", "shared_by_copies", "suit_workers", "working",
]  # fmt: skip
