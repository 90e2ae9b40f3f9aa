"""ONNX Runtime in a process of its own: a file that makes it crash, hang or grow takes nothing with it.

One process serves every model that is loaded; it is started again after it ended.
"""

import atexit
import contextlib
import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from auditor import runtime_worker

# ONNX Runtime is given what the importer was given, and more: it keeps several copies of weights.
MEMORY, MEMORY_PER_BYTE, MEMORY_PER_PIXEL = 2 * 2**30, 8, 16 * 2**10
SECONDS, BYTES_PER_SECOND = 60.0, 4_000_000

_numbers = itertools.count()
_lock = threading.Lock()
_worker: "_Worker | None" = None


class EndedError(Exception):
    """The process ended or was ended; the text says how."""


class _Worker:
    def __init__(self) -> None:
        self.owner = os.getpid()
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(Path(runtime_worker.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # an interrupt is for us; it ends when its input does
        )

    def ask(self, header: dict[str, Any], content: bytes, seconds: float) -> tuple[dict[str, Any], bytes]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        late = threading.Event()

        def end() -> None:
            late.set()
            self.process.kill()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            runtime_worker.write(self.process.stdin, header, content)  # type: ignore[arg-type]
            return runtime_worker.read(self.process.stdout)  # type: ignore[arg-type]
        except (EOFError, OSError, ValueError) as error:
            self.stop()
            code = self.process.returncode
            why = f"it ended with signal {-code}" if code < 0 else f"it ended with code {code}"
            raise EndedError(f"it did not end within {seconds:.0f} s" if late.is_set() else why) from error
        finally:
            timer.cancel()

    def stop(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            self.process.wait(5.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def alive(self) -> bool:
        return self.owner == os.getpid() and self.process.poll() is None


def warm_up() -> None:
    """Start the process, so that it is ready when it is needed."""
    global _worker
    with _lock:
        if _worker is None or not _worker.alive:
            if _worker is not None and _worker.owner == os.getpid():
                _worker.stop()
            _worker = _Worker()


def abandon() -> None:
    """End the process whatever it is doing; who waits for an answer gets `EndedError`, and the next model a new one."""
    worker = _worker  # without the lock, which whoever waits for an answer holds
    if worker is not None and worker.owner == os.getpid():
        worker.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(5.0)


@atexit.register
def _end() -> None:
    abandon()
    if _worker is not None and _worker.owner == os.getpid():
        _worker.stop()


class Session:
    """One model in the process.

    Parameters
    ----------
    content
        The serialised model.
    threads
        For its operators.
    cuda
        Run on the GPU, for which the limit on memory is lifted: CUDA reserves more addresses than any limit allows.

    Raises
    ------
    EndedError
        The process ended.
    RuntimeError
        ONNX Runtime refuses the model; the text is its own.
    """

    def __init__(self, content: bytes, threads: int, *, cuda: bool = False) -> None:
        warm_up()
        assert _worker is not None
        self.worker, self.number, self.size, self.cuda = _worker, next(_numbers), len(content), cuda
        answer, _ = self._ask({"do": "open", "threads": threads}, content, 0)
        self.inputs: tuple[tuple[int | None, ...], ...] = tuple(tuple(shape) for shape in answer["inputs"])

    def run(self, x: bytes, shape: tuple[int, ...]) -> tuple[bytes, tuple[int, ...]]:
        """Return the first output for float32 input bytes of a shape, as float32 bytes and their shape.

        Raises
        ------
        EndedError, RuntimeError
            As for the session itself.
        """
        answer, content = self._ask({"do": "run", "shape": shape}, x, len(x) // 4)
        return content, tuple(answer["shape"])

    def _ask(self, header: dict[str, Any], content: bytes, pixels: int) -> tuple[dict[str, Any], bytes]:
        memory = None if self.cuda else MEMORY + MEMORY_PER_BYTE * self.size + MEMORY_PER_PIXEL * pixels
        seconds = SECONDS + (self.size + MEMORY_PER_PIXEL * pixels) / BYTES_PER_SECOND
        with _lock:
            answer, result = self.worker.ask(
                {**header, "session": self.number, "memory": memory, "seconds": seconds, "cuda": self.cuda},
                content,
                seconds,
            )
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer, result

    def __del__(self) -> None:
        if hasattr(self, "worker") and self.worker.alive and self.worker.process.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                runtime_worker.write(self.worker.process.stdin, {"do": "close", "session": self.number})  # type: ignore[arg-type]
