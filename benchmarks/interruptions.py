"""End fl-audit with SIGKILL at random moments, go on, and compare what comes out with a run that was left alone.

Usage: python benchmarks/interruptions.py [--kills 50] [--seed 0] [--folder FOLDER] [--only NAME]

Takes turns among a scan as it is (a process a core), one with a single copy, a study and a comparison of two models.
Each is killed after a random part of the time that an undisturbed one takes, and the same command is run again, up to
eight kills; then it is let come to its end. Half of the kills end the process alone, half everything that it started.
Documents must be equal but for times, and no finished parts may stay behind. Then a scan on a disk of 1 MB, and on one
that cannot be written, must tell it, and two scans and two studies in one folder must not mix. To mount disks needs
root: without it they are told as not tried.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from auditor.results.repeatable import without_times  # noqa: E402

SMALL = """
import torch
from torch import nn

def net(width=8):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(3, width, 3, 2, 1), nn.ReLU(), nn.Conv3d(width, 16, 3, 2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(256, 10),
    )

def narrow():
    return net(4)
"""
STUDY = """
[study]
title = "Interrupted"
clips = ["park_walker", "hand_box"]
seeds = [0]
[preset.fast]
steps = 20
[[model]]
name = "net"
kind = "raw"
model = "{net}:net"
input_shape = [3, 4, 16, 16]
[[grid]]
references = [0]
null_seeds = 1
[[attacks]]
references = [0]
run = ["gradient-matching", "least-squares-matching"]
[[claim]]
name = "leak"
text = "They leak"
measure = "lead"
of = {{ references = [0] }}
margin = 1.0
"""
# A command is let come to its end after so many kills.
_KILLS_EACH = 8
_SHAPE = ("--input-shape", "3,4,16,16", "--device", "cpu")


@dataclass(frozen=True)
class Case:
    """A command without its folder, what it writes there, and where it keeps what is finished (empty: for good)."""

    name: str
    arguments: tuple[str, ...]
    written: Callable[[Path], Any]
    unfinished: str = "unfinished"


def cases(folder: Path) -> list[Case]:
    (folder / "net.py").write_text(SMALL)
    (folder / "study.toml").write_text(STUDY.format(net=folder / "net.py"))
    net = f"{folder / 'net.py'}:net"
    narrow = f"{folder / 'net.py'}:narrow"
    return [
        Case("scan", ("scan", net, *_SHAPE), audit),
        Case("scan --jobs 1", ("scan", net, *_SHAPE, "--jobs", "1"), audit),
        Case("study", ("study", str(folder / "study.toml"), "--device", "cpu", "--jobs", "1"), study, unfinished=""),
        Case("compare", ("compare", net, narrow, *_SHAPE), comparison),
    ]


def audit(out: Path) -> Any:
    return without_times(json.loads((out / "results.json").read_text()))


def study(out: Path) -> Any:
    found = json.loads((out / "study.json").read_text())
    del found["times"], found["tool"]["command"]
    return found


def comparison(out: Path) -> Any:
    found = without_times(json.loads((out / "comparison.json").read_text()))
    for run in (run for candidate in found["candidates"] for run in candidate["runs"]):
        del run["audit_id"]
    return found, [without_times(json.loads(path.read_text())) for path in sorted((out / "audits").glob("*.json"))]


def child(arguments: list[str]) -> None:
    """Run the command line with a budget of few steps."""
    from auditor.attack import PRESETS
    from auditor.cli.main import main

    fast = PRESETS["fast"]
    attacks = tuple(a for a in fast.attacks if a.closed_form or a.name.startswith("least-squares-matching"))
    # Least squares takes 20 products of two steps at least; a tenth of the work is too little to enlarge clips.
    PRESETS["fast"] = replace(fast, steps=45, probes=2, seconds=25.0, attacks=attacks)
    sys.argv = ["fl-audit", *arguments]
    main()


def begin(case: Case, out: Path) -> subprocess.Popen[str]:
    program = [sys.executable, __file__, "--child", *case.arguments, "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        program, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )  # fmt: skip


def kill(running: subprocess.Popen[str], everything: bool) -> None:
    """End a process, and all that it started at once or after a moment in which they are alone."""
    if not everything:
        running.kill()
        running.communicate()
        time.sleep(0.2)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    running.communicate()


def undisturbed(case: Case, out: Path) -> tuple[int, float, Any]:
    begun = time.monotonic()
    running = begin(case, out)
    told = running.communicate()[1]
    if not out.exists():
        raise SystemExit(f"{case.name} wrote nothing: {told}")
    return running.returncode, time.monotonic() - begun, case.written(out)


def interrupted(case: Case, out: Path, seconds: float, kills: int, drawn: random.Random) -> tuple[int, int, list[int]]:
    """Kill a command so many times at most, let it end; return its exit code, the kills, and parts done at each."""
    kept: list[int] = []
    while True:
        running = begin(case, out)
        try:
            limit = drawn.uniform(0.05, 1.0) * seconds if len(kept) < kills else None
            running.communicate(timeout=limit)
            return running.returncode, len(kept), kept
        except subprocess.TimeoutExpired:
            kill(running, everything=drawn.random() < 0.5)
            kept.append(len(list(out.glob(f"{case.unfinished or 'units'}/*.json"))))


def killed(every: list[Case], folder: Path, kills: int, drawn: random.Random) -> int:
    """Kill in turns until there were so many kills; return how many runs came out otherwise."""
    whole = {case.name: undisturbed(case, folder / f"whole {case.name}") for case in every}
    for name, (code, seconds, _) in whole.items():
        print(f"{name}, undisturbed: exit code {code}, {seconds:.0f} s", flush=True)
    done = wrong = ended = 0
    while done < kills:
        for case in every:
            out = folder / "killed"
            shutil.rmtree(out, ignore_errors=True)
            code, seconds, wanted = whole[case.name]
            got, count, kept = interrupted(case, out, seconds, min(_KILLS_EACH, kills - done), drawn)
            left = bool(case.unfinished) and (out / case.unfinished).exists()
            same = got == code and case.written(out) == wanted and not left
            done, ended, wrong = done + count, ended + 1, wrong + (not same)
            print(f"{case.name}: killed with {kept} parts done; {'equal' if same else 'DIFFERENT'}", flush=True)
    print(f"{done} kills, {ended} runs came to their end, {wrong} differ from the undisturbed ones", flush=True)
    return wrong


def told(running: subprocess.Popen[str]) -> tuple[int, str]:
    said = running.communicate()[1].strip().splitlines()
    return running.returncode, next((line for line in reversed(said) if "fl-audit:" in line), said[-1] if said else "")


@contextlib.contextmanager
def disk(folder: Path, options: str) -> Iterator[Path | None]:
    """Mount a disk of memory; None where this user may not."""
    where = folder / "disk"
    where.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", where], capture_output=True, check=False)
    try:
        yield None if done.returncode else where
    finally:
        if not done.returncode:
            subprocess.run(["umount", where], check=False)


def bad_disks(case: Case, folder: Path) -> None:
    """Scan where next to nothing can be written, and where nothing can: it must say so, the latter before any work."""
    for name, options in (("of 1 MB", "size=1m"), ("that is read-only", "ro")):
        with disk(folder, options) as where:
            if where is None:
                print(f"disk {name}: not tried, nothing can be mounted here")
                continue
            begun = time.monotonic()
            code, said = told(begin(case, where / "report"))
            files = [path for path in (where / "report").rglob("*") if path.is_file()]
            parts = [path for path in files if path.parent.name == "unfinished" and path.suffix == ".json"]
            names = sorted(path.name for path in files if path.parent.name == "report")
            took = time.monotonic() - begun
            print(
                f"disk {name}: exit code {code} after {took:.0f} s, {said!r}; {names}, {len(parts)} parts", flush=True
            )


def two_at_once(case: Case, folder: Path) -> int:
    """Begin the same command twice in one folder: one must be told, and the other end as if it were alone."""
    out = folder / "shared"
    shutil.rmtree(out, ignore_errors=True)
    code, _, wanted = undisturbed(case, folder / "alone")
    both = [begin(case, out), begin(case, out)]
    ends = [told(one) for one in both]
    refused = [(c, said) for c, said in ends if "another audit is at work" in said]
    same = len(refused) == 1 and code in [c for c, _ in ends] and case.written(out) == wanted
    print(f"two at once, {case.name}: {refused}; {'equal' if same else f'DIFFERENT {ends}'}", flush=True)
    shutil.rmtree(folder / "alone")
    return not same


def main() -> int:
    """Kill so many times, and try full and locked folders; return 1 where anything differed."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--only", action="append", help="of the commands that are killed; repeatable")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    every = cases(folder)
    chosen = [case for case in every if not options.only or case.name in options.only]
    wrong = killed(chosen, folder, options.kills, random.Random(options.seed)) if options.kills else 0
    bad_disks(every[0], folder)
    wrong += sum(two_at_once(case, folder) for case in (every[0], every[2]))
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
