"""Hostile files end in success or one line, within 20 s and 2 GiB: the ones that once did not, and random ones."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(path) for path in (HERE, HERE.parent / "model") if str(path) not in sys.path]

from corpus import CORPUS  # noqa: E402
from harness import GIB, run  # noqa: E402

from auditor.errors import AuditError  # noqa: E402
from auditor.model import load  # noqa: E402

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits and counters are Linux's")
SAVED = sorted((Path(__file__).parent / "corpus").glob("*.onnx"))
SECONDS = 20.0


def told(path: Path) -> str:
    """Load a file; return what was said, after checking that it was one line, or an empty text."""
    begun = time.process_time()
    error = None
    try:
        load(str(path))
    except AuditError as caught:
        error = caught
    assert time.process_time() - begun < SECONDS
    if error is None:
        return ""
    assert str(error).isprintable()
    assert len(str(error)) < 4000
    assert error.remedy
    return str(error)


@pytest.mark.parametrize(("make", "words"), CORPUS, ids=lambda v: getattr(v, "__name__", None))
def test_the_corpus(make, words, tmp_path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(make().SerializeToString())
    said = told(path)
    assert (words in said) if words else not said


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
def test_saved_files(path) -> None:
    told(path)


def fuzzed(count: int, seed: int, *options: str) -> dict[str, int]:
    """Run the fuzzer by itself: a process that has used several threads cannot be forked."""
    command = [sys.executable, str(HERE / "run.py"), "--count", str(count), "--seed", str(seed), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    counts: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return counts


@pytest.mark.parametrize("count", [20, pytest.param(150, marks=pytest.mark.slow)])
def test_random_files(count) -> None:
    counts = fuzzed(count, 7, "--nets", "1")
    assert sum(counts.values()) == count
    # Damage that never damages, or always, tests nothing.
    assert count / 15 < counts["loaded"] < count / 1.5


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_ten_thousand_random_files() -> None:
    assert sum(fuzzed(10_000, 0).values()) == 10_000


def test_the_harness_sees_what_goes_wrong(tmp_path, monkeypatch) -> None:
    """A fuzzer that finds nothing is worth what it would have found."""
    import harness

    def broken(path: str) -> tuple[str, str]:
        import ctypes
        import os

        what = Path(path).read_bytes()
        if what == b"crash":
            ctypes.string_at(0)
        if what == b"hang":
            time.sleep(60)
        if what == b"memory":
            try:
                bytearray(4 * GIB)
            except MemoryError:
                return "MemoryError", os.fspath(path)
        return "loaded", ""

    monkeypatch.setattr(harness, "judge", broken)
    monkeypatch.setattr(harness, "PATIENCE", 1)
    content = {0: b"crash", 1: b"hang", 2: b"memory", 3: b"fine"}
    found = {o.number: o for o in run(content.__getitem__, [0, 1, 2, 3], processes=1, memory=GIB, seconds=2.0)}
    assert {n: o.kind for n, o in found.items()} == {0: "crash", 1: "hang", 2: "MemoryError", 3: "loaded"}
    assert [found[n].defect for n in range(4)] == [True, True, True, False]
