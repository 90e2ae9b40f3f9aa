"""Parts of an audit that are made side by side; whoever makes a part, its content decides what comes of it."""

from auditor.pipeline.workers.ahead import Task, Workers, make_ahead, working
from auditor.pipeline.workers.processes import Processes, check_device

__all__ = ["Processes", "Task", "Workers", "check_device", "make_ahead", "working"]
