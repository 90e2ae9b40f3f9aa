"""Kill scans with SIGKILL at random moments, go on, and compare what comes out with a scan that was left alone.

Usage: python benchmarks/interruptions.py [--kills 50] [--seed 0] [--folder FOLDER] [MODEL]

A scan is killed after a random part of the time that an undisturbed one takes, and the same command is run again, and
killed again, until one comes to its end; then the next begins. Documents must be equal but for times
(`auditor.results.repeatable`). MODEL is a factory; without one it is a small net of three convolutions.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from auditor.results.repeatable import without_times  # noqa: E402

SMALL = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv3d(8, 16, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)
    )
"""


def command(model: str, out: Path, *more: str) -> list[str]:
    return [sys.executable, __file__, "--child", "scan", model, "--input-shape", "3,4,16,16", "--out", str(out), *more]


def child(arguments: list[str]) -> None:
    """Run the command line with a budget of few steps."""
    from auditor.attack import PRESETS
    from auditor.cli.main import main

    PRESETS["fast"] = replace(PRESETS["fast"], steps=10, probes=2, seconds=10.0)
    sys.argv = ["fl-audit", *arguments]
    main()


def document(out: Path) -> Any:
    return without_times(json.loads((out / "results.json").read_text()))


def main() -> int:
    """Kill so many times; return 1 where anything differed."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    if not options.model:
        (folder / "net.py").write_text(SMALL)
    model = options.model or f"{folder / 'net.py'}:net"
    begun = time.monotonic()
    whole = subprocess.run(command(model, folder / "whole", "--no-resume"), capture_output=True, text=True, check=False)
    seconds = time.monotonic() - begun
    wanted, drawn = document(folder / "whole"), random.Random(options.seed)
    print(f"undisturbed: exit code {whole.returncode}, {seconds:.0f} s", flush=True)
    kills = ended = wrong = 0
    while kills < options.kills:
        shutil.rmtree(folder / "killed", ignore_errors=True)
        code, kept = None, []
        while code is None:
            running = subprocess.Popen(command(model, folder / "killed"), stderr=subprocess.PIPE)
            limit = drawn.uniform(0.05, 1.1) * seconds if kills < options.kills else None
            try:
                code = running.wait(limit)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()
                kills += 1
                kept.append(len(list((folder / "killed" / "unfinished").glob("*.json"))))
        ended += 1
        different = document(folder / "killed") != wanted or code != whole.returncode
        left = (folder / "killed" / "unfinished").exists()
        wrong += different or left
        print(f"scan {ended}: killed with {kept} parts done; {'DIFFERENT' if different else 'equal'}", flush=True)
    print(f"{kills} kills, {ended} scans came to their end, {wrong} differ from the undisturbed one")
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
