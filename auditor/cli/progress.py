"""How a scan looks while it runs: bars on a terminal, one plain line per finished unit elsewhere; always on stderr."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from auditor.signals import raise_dropped
from auditor.text import printable


class Lines:
    """Plain lines, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._start = time.monotonic()
        self._pending = ""

    def stage(self, title: str) -> None:
        """Keep the stage for its first finished unit: a scan that ends at once prints its error and nothing else."""
        raise_dropped()
        self._pending = title

    @contextmanager
    def unit(self, title: str, seconds: float) -> Iterator[Callable[[float], None]]:
        """Print one line when the unit ends."""
        raise_dropped()
        begun = time.monotonic()
        yield lambda fraction: raise_dropped()
        if self._pending:
            self._say(self._pending)
            self._pending = ""
        self._say(f"  {title} ({time.monotonic() - begun:.1f} s)")

    def note(self, text: str) -> None:
        """Print a note."""
        self._say(text)

    def _say(self, text: str) -> None:
        stamp = time.monotonic() - self._start
        self._console.print(f"[{stamp:6.1f}s] {printable(text, 200)}", markup=False, highlight=False, soft_wrap=True)


class Bars:
    """A bar for the whole audit against its time budget, and one for the running unit."""

    def __init__(self, progress: Progress, max_time: float) -> None:
        self._progress = progress
        self._start = time.monotonic()
        self._max = max_time
        self._whole = progress.add_task("audit", total=max_time)

    def stage(self, title: str) -> None:
        """Name the stage on the audit's bar."""
        raise_dropped()
        self._progress.update(self._whole, description=escape(f"audit: {title}"))
        self._tick()

    @contextmanager
    def unit(self, title: str, seconds: float) -> Iterator[Callable[[float], None]]:
        """Show a bar while the unit runs."""
        raise_dropped()
        task = self._progress.add_task(escape(printable(title, 60)), total=1.0)

        def advance(fraction: float) -> None:
            raise_dropped()
            self._progress.update(task, completed=fraction)
            self._tick()

        try:
            yield advance
        finally:
            self._progress.remove_task(task)
            self._tick()

    def note(self, text: str) -> None:
        """Print above the bars."""
        self._progress.console.print(printable(text, 200), markup=False, highlight=False)

    def _tick(self) -> None:
        self._progress.update(self._whole, completed=min(self._max, time.monotonic() - self._start))


@contextmanager
def progress_display(console: Console, max_time: float) -> Iterator[Bars | Lines]:
    """Yield the display that fits the console."""
    if not console.is_terminal:
        yield Lines(console)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Bars(progress, max_time)
