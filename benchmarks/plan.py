"""Hold what `fl-audit plan` tells against scans: seconds, memory and what is left out; print a table.

Usage: python benchmarks/plan.py [--preset fast] [--max-time 2m] [NET ...]

Seconds are of the processor, so that other programs on the machine do not count, of one attack at a time (`--jobs 1`)
and of one thread unless OMP_NUM_THREADS says otherwise. A scan writes its report. The peak is that of the largest of
its processes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
NETS = {
    "tiny": ("tests/models_for_scans.py:tiny", "3,4,16,16"),
    "conv3d_flatten": ("benchmarks/nets.py:conv3d_flatten", "3,8,32,32"),
    "conv3d_bn_pooled": ("benchmarks/nets.py:conv3d_bn_pooled", "3,8,32,32"),
    "vivit": ("benchmarks/nets.py:vivit", "3,8,32,32"),
    "residual": ("tests/models_for_scans.py:residual", "3,8,32,32"),
    "r3d_18 8x32x32": ("benchmarks/nets.py:r3d_18", "3,8,32,32"),
    "r3d_18 8x64x64": ("benchmarks/nets.py:r3d_18", "3,8,64,64"),
    "r3d_18 16x112x112": ("benchmarks/nets.py:r3d_18", "3,16,112,112"),
}
HEAD = "| net | planned s | scanned s | ratio | planned GiB | peak GiB | ratio |\n|---|---|---|---|---|---|---|"
_GIB = 2**30


def run(command: str, *arguments: str) -> tuple[str, float, float]:
    """Run fl-audit; return what it printed, seconds of the processor, and bytes at the peak."""
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": str(ROOT)}
    measured = (
        "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE); "
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); sys.stdout.buffer.write(done.stdout); "
        "print(); print(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)"
    )
    program = [sys.executable, "-m", "auditor", command, *arguments]
    done = subprocess.run(
        [sys.executable, "-c", measured, *program],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    printed, _, last = done.stdout.rstrip().rpartition("\n")
    seconds, peak = map(float, last.split())
    return printed, seconds, peak


def compared(name: str, options: list[str]) -> str:
    """Return a row."""
    model, shape = NETS[name]
    given = [model, "--input-shape", shape, "--device", "cpu", "--jobs", "1", *options]
    planned = json.loads(run("plan", *given, "--json")[0])
    with tempfile.TemporaryDirectory() as folder:
        _, seconds, peak = scanned(given, Path(folder))
    cells = (
        name, f"{planned['seconds']:.0f}", f"{seconds:.0f}", f"{planned['seconds'] / seconds:.2f}",
        f"{planned['memory'] / _GIB:.1f}", f"{peak / _GIB:.1f}", f"{planned['memory'] / peak:.2f}",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def scanned(given: list[str], folder: Path) -> tuple[str, float, float]:
    """Scan with a report and without resuming."""
    return run("scan", *given, "--out", str(folder / "report"), "--quiet", "--no-resume")


def main() -> None:
    """Compare all nets, or those named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", metavar="NET", choices=[*NETS, []])
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--max-time")
    given = parser.parse_args()
    options = ["--preset", given.preset, *(["--max-time", given.max_time] if given.max_time else [])]
    print(HEAD, flush=True)
    for name in given.nets or NETS:
        print(compared(name, options), flush=True)


if __name__ == "__main__":
    main()
