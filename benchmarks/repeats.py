"""Scan nets again and again, with and without another process that takes a core; print what differs.

Usage: python benchmarks/repeats.py [--quiet 2] [--busy 2] [--work 180] [--most 720] [--clips 3] [NET ...]

Documents must be equal but for times (`auditor.results.repeatable`), and verdict, grades and exit code in any case.
Runs that are in the folder already are not made again.
"""

import argparse
import contextlib
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from auditor.results.repeatable import without_times

NETS = Path(__file__).parent / "nets.py"
MODELS = {name: f"{NETS}:{name}" for name in ("conv3d_flatten", "conv3d_bn_pooled", "vivit", "r3d_18")}
HEAD = (
    "| net | runs (busy ones) | verdict, exit code | grades | places that differ | largest difference | seconds |\n"
    "|---|---|---|---|---|---|---|"
)


@contextlib.contextmanager
def neighbour(wanted: bool) -> Iterator[None]:
    """Keep a core busy with another process."""
    if not wanted:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def scanned(model: str, path: Path, budget: Sequence[str], busy: bool) -> dict[str, Any]:
    """Return results.json of a scan by a process of its own, with its exit code and how long it took."""
    if not path.exists():
        with neighbour(busy):
            subprocess.run([sys.executable, __file__, "--scan", str(path), *budget, model], check=True)
    return dict(json.loads(path.read_text()))


def scan_into(path: Path, model: str, work: float, most: float, clips: int) -> None:
    """Scan with a budget of so many reference seconds and write what came of it."""
    from auditor.attack import PRESETS
    from auditor.pipeline import ScanOptions, Silent, scan

    PRESETS["fast"] = replace(PRESETS["fast"], seconds=work, most_seconds=most, probes=clips)
    begun = time.monotonic()
    results = scan(ScanOptions(model=model, input_shape=(3, 8, 32, 32)), Silent()).results
    found = {"code": results["verdict"]["exit_code"], "wall": time.monotonic() - begun, "results": dict(results)}
    path.write_text(json.dumps(found))


def differences(a: Any, b: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Yield every place where two documents differ, and by how much: relative for numbers, infinite for all else."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        for key in a:
            yield from differences(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for k, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from differences(x, y, f"{path}[{k}]")
    elif a != b:
        numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (a, b))
        yield path, abs(a - b) / max(abs(a), abs(b)) if numbers else math.inf


def row(name: str, runs: list[dict[str, Any]], busy: int) -> str:
    """Return what differs among runs of one net, against the first."""
    documents = [without_times(r["results"]) for r in runs]
    found = [d for other in documents[1:] for d in differences(documents[0], other)]
    for place, much in found[:20]:
        print(f"  {name}: {place} differs by {much:.1e}", file=sys.stderr)
    verdicts = {f"{r['results']['verdict']['word']}, {r['code']}" for r in runs}
    grades = {" ".join(f["grade"] for f in d["findings"]) for d in documents}
    seconds = ", ".join(f"{r['wall']:.0f}" for r in runs)
    largest = f"{max((much for _, much in found), default=0.0):.1e}"
    told = f"{len(grades)} list of {len(documents[0]['findings'])}" if len(grades) == 1 else f"{len(grades)} lists"
    cells = (name, f"{len(runs)} ({busy})", " / ".join(sorted(verdicts)), told, str(len(found)), largest, seconds)
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Run all nets, or those named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nets", nargs="*", metavar="NET", default=list(MODELS))
    parser.add_argument("--quiet", type=int, default=2, help="runs without a busy neighbour")
    parser.add_argument("--busy", type=int, default=2, help="runs with one")
    parser.add_argument("--work", type=float, default=180.0, help="reference seconds of a scan")
    parser.add_argument("--most", type=float, default=720.0, help="the same where deep attacks need more")
    parser.add_argument("--clips", type=int, default=3)
    parser.add_argument("--scan", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, default=Path("repeats"))
    options = parser.parse_args()
    if options.scan:
        scan_into(options.scan, options.nets[0], options.work, options.most, options.clips)
        return
    budget = [f"--{name}={getattr(options, name)}" for name in ("work", "most", "clips")]
    options.folder.mkdir(parents=True, exist_ok=True)
    print(HEAD, flush=True)
    for name in options.nets:
        runs = [
            scanned(MODELS[name], options.folder / f"{name}-{kind}-{k}.json", budget, kind == "busy")
            for kind, count in (("quiet", options.quiet), ("busy", options.busy))
            for k in range(count)
        ]
        print(row(name, runs, options.busy), flush=True)


if __name__ == "__main__":
    main()
