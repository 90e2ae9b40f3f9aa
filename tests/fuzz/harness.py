"""Loads many hostile files in forked processes with limits, and tells what became of each."""

import faulthandler
import os
import re
import resource
import select
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

GIB = 2**30
# Clock time counts a busy machine's other work too, so that limit only catches what never ends.
PATIENCE = 6
LOADS_PER_PROCESS = 400


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    `kind` is loaded, UsageError, NotAuditable, or a defect: another exception's name, `crash`, `hang`, `many lines`.
    """

    number: int
    kind: str
    text: str
    seconds: float
    memory: int

    @property
    def defect(self) -> bool:
        return self.kind not in ("loaded", "UsageError", "NotAuditable")


def judge(path: str) -> tuple[str, str]:
    """Load a file and say what happened."""
    from auditor.errors import NotAuditable, UsageError
    from auditor.model import load
    from auditor.model.loading import UNFORESEEN

    try:
        target = load(path)
    except (UsageError, NotAuditable) as error:
        text = str(error)
        plain = text.isprintable() and len(text) < 4000
        if UNFORESEEN in text:  # one line, but nobody thought of it
            return "unforeseen", text
        return (type(error).__name__ if plain else "many lines"), text
    except Exception as error:  # noqa: BLE001  # any other type is the finding
        return type(error).__name__, f"{error!r:.300} at {_place(error)}"
    return "loaded", target.fidelity.batch


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    places = []
    while trace is not None:
        places.append(f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " ".join(places[-6:])


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return 0


def _work(numbers: list[int], content: Callable[[int], bytes], memory: int, seconds: float, pipe: int) -> None:
    """Load the files of `numbers`, one after another; every line of the pipe tells one."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + memory,) * 2)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        (Path(folder) / "data").write_bytes(bytes(4096))
        for number in numbers:
            _tell(pipe, f"begin {number}")
            path.write_bytes(content(number))
            base = _status("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")
            begun = time.process_time()
            kind, text = judge(str(path))
            used = time.process_time() - begun
            if used > seconds:
                kind, text = "slow", f"{used:.1f} s; {kind}: {text}"
            _tell(pipe, f"end {number} {used:.3f} {max(0, _status('VmHWM') - base)} {kind.replace(' ', '-')} {text!r}")


def _tell(pipe: int, line: str) -> None:
    data = line.encode()[:60_000]
    os.write(pipe, struct.pack("<I", len(data)) + data)


@dataclass
class _Process:
    pid: int
    pipe: int
    left: list[int]
    now: int | None = None
    since: float = 0.0


def run(
    content: Callable[[int], bytes], numbers: list[int], *, processes: int, memory: int, seconds: float
) -> Iterator[Outcome]:
    """Yield an outcome for every number, in no particular order.

    Parameters
    ----------
    content
        Returns the file of a number.
    memory
        Bytes that a process may allocate beyond what it has at its start.
    seconds
        Processor time that one load may take; a process that takes much longer by the clock is killed.
    """
    chunks = [numbers[i : i + LOADS_PER_PROCESS] for i in range(0, len(numbers), LOADS_PER_PROCESS)][::-1]
    alive: list[_Process] = []
    while chunks or alive:
        while chunks and len(alive) < processes:
            alive.append(_start(chunks.pop(), content, memory, seconds))
        ready, _, _ = select.select([p.pipe for p in alive], [], [], 1.0)
        for process in list(alive):
            if process.pipe in ready:
                outcome, ended = _read(process)
            elif process.now is not None and time.monotonic() - process.since > PATIENCE * seconds:
                os.kill(process.pid, signal.SIGKILL)
                outcome, ended = Outcome(process.now, "hang", "", seconds * PATIENCE, 0), True
                process.left.remove(process.now)
            else:
                continue
            if outcome is not None:
                yield outcome
            if ended:
                os.close(process.pipe)
                os.waitpid(process.pid, 0)
                alive.remove(process)
                if process.left:
                    chunks.append(process.left)


def _start(numbers: list[int], content: Callable[[int], bytes], memory: int, seconds: float) -> _Process:
    reader, writer = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        faulthandler.disable()  # a crash is an outcome here, not news
        try:
            _work(numbers, content, memory, seconds, writer)
        finally:
            os._exit(0)
    os.close(writer)
    return _Process(pid, reader, list(numbers))


def _read(process: _Process) -> tuple[Outcome | None, bool]:
    head = os.read(process.pipe, 4)
    if len(head) < 4:
        if process.now is None:
            return None, True
        process.left.remove(process.now)
        return Outcome(process.now, "crash", "the process died", 0.0, 0), True
    wanted, data = struct.unpack("<I", head)[0], b""
    while len(data) < wanted:
        part = os.read(process.pipe, wanted - len(data))
        if not part:
            break
        data += part
    words = data.decode("utf-8", "replace").split(" ", 5)
    if words[0] == "begin":
        process.now, process.since = int(words[1]), time.monotonic()
        return None, False
    number = int(words[1])
    process.left.remove(number)
    process.now = None
    return Outcome(number, words[4], words[5], float(words[2]), int(words[3])), False


def gist(outcome: Outcome) -> str:
    """Return an outcome without its names and numbers, so that like counts with like."""
    text = re.sub(r"'[^']*'|\"[^\"]*\"", "'…'", outcome.text.strip("'\"").split(";")[0])
    return f"{outcome.kind}: {re.sub(r'[-0-9][-0-9.e+]*', '#', text)[:90]}"
