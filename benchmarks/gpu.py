"""What only a GPU can show, in at most ten minutes: tests, steps, memory, utilisation, whole scans, peers.

Usage: python benchmarks/gpu.py [--out gpu.json] [--peer-path DIR] [--only SECTION ...]
       python benchmarks/gpu.py [--keep DIR] [--limit SECONDS] ...
       python benchmarks/gpu.py --device cpu --small

Needs torch and what fl-audit imports. Every section is a process of its own under a limit: what fails, hangs or is not
installed is told and costs its section alone. Results are JSON and a table. Without a GPU it says so and exits with 2;
`--device cpu --small` runs every section on small nets in about a minute, to see that the script itself works. Exits
with 1 where a section failed.
"""

import argparse
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
NETS = ROOT / "benchmarks" / "gpu_nets.py"
# All of it, whatever sections want: the loan of a machine has an end.
TOTAL = 590.0
GPU_TESTS = (
    "tests/attack/test_contract.py",
    "tests/federated/test_defences_on_devices.py",
    "tests/records/test_placement.py",
    "tests/solvers/test_least_norm.py",
)
USAGE = 2


@dataclass(frozen=True)
class Section:
    """A part that runs by itself; `small` are its net and its limit in a dry run."""

    name: str
    limit: float
    net: str = ""
    layout: str = "NCTHW"
    needs: tuple[str, ...] = ()
    small: str = ""
    small_limit: float = 240.0


SECTIONS = (
    Section("machine", 20.0),
    Section("tests", 80.0, needs=("pytest",)),
    Section("steps r3d_18", 30.0, "r3d_18", needs=("torchvision",), small="r3d_small"),
    Section("steps VideoMAE-base", 40.0, "videomae_base", "NTCHW", ("transformers",), "videomae_small"),
    Section("scan r3d_18", 190.0, "r3d_18", needs=("torchvision",), small="r3d_small"),
    Section("scan VideoMAE-base", 170.0, "videomae_base", "NTCHW", ("transformers",), "videomae_small"),
    Section("peers", 60.0, needs=("breaching",)),
)


@dataclass
class Outcome:
    """What became of a section: `ran`, `failed`, `timed out` or `left out`, and why."""

    section: str
    state: str
    seconds: float = 0.0
    reason: str = ""
    measured: dict[str, Any] = field(default_factory=dict)
    utilisation_percent: float | None = None
    memory_mib: float | None = None


# ------------------------------------------------------------------------------ what runs in a process of its own


def machine(section: Section, device: str, small: bool) -> dict[str, Any]:
    """Return the device and what decides its numbers."""
    import torch

    from auditor.pipeline.documents.environment import environment_block
    from auditor.pipeline.scan import choose_device

    place = choose_device(device)
    found = dict(environment_block(place))
    if place.type == "cuda":
        found["memory_gib"] = round(torch.cuda.get_device_properties(place).total_memory / 2**30, 1)
    return found


def tests(section: Section, device: str, small: bool) -> dict[str, Any]:
    """Run the tests that need a GPU; on the CPU all of them are skipped."""
    # A machine with little but torch lacks what other tests' configuration asks for.
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    command += ["-o", "addopts=", "-W", "default"]
    command += ["-o", "timeout=0"] if importlib.util.find_spec("pytest_timeout") else []
    command += ["-n", str(min(8, os.cpu_count() or 1))] if importlib.util.find_spec("xdist") else []
    done = subprocess.run([*command, *GPU_TESTS], cwd=ROOT, capture_output=True, text=True)
    said = done.stdout.strip().splitlines()
    last = (said or [""])[-1]
    if done.returncode not in (0, 5):
        failed = [line for line in said if line.startswith(("FAILED", "ERROR"))]
        raise RuntimeError("\n".join([*failed, last, done.stderr[-800:]]))
    return {"pytest": last}


def steps(section: Section, device: str, small: bool) -> dict[str, Any]:
    """Return seconds and memory of a step of gradient matching beside those of a training step."""
    import torch
    from convolutions import ByThreeOperations
    from gpu_views import view_on

    from auditor.pipeline.scan import choose_device

    place = choose_device(device)
    view, clip = view_on(f"{NETS}:{section.small if small else section.net}", section.layout, place)
    wanted, targets = view.update.gradients, view.client.targets((0,))
    start = torch.full_like(clip, 0.5).requires_grad_(True)

    def training() -> None:
        view.client(clip, targets)

    def matching() -> None:
        made = view.client(start, targets, create_graph=True)
        off = torch.stack([(made[n] - g).square().sum() for n, g in wanted.items()]).sum()
        torch.autograd.grad(off, start)

    def otherwise() -> None:
        with ByThreeOperations():
            matching()

    found: dict[str, Any] = {"parameters": sum(p.numel() for p in view.target.parameters.values())}
    if view.target.step is not None:
        found["matching_planned_gib"] = round(view.target.step.matching_bytes(1) / 2**30, 2)
    for name, step in (("training", training), ("matching", matching), ("matching_by_three", otherwise)):
        found |= {f"{name}_{what}": value for what, value in _timed(step, place, 2 if small else 10).items()}
    found["matching_over_training"] = round(found["matching_seconds"] / found["training_seconds"], 2)
    return found


def _timed(step: Any, place: Any, times: int) -> dict[str, float]:
    import torch

    on_gpu = place.type == "cuda"
    for _ in range(1 if times < 10 else 3):
        step()
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    for _ in range(times):
        step()
    if on_gpu:
        torch.cuda.synchronize()
    found = {"seconds": round((time.perf_counter() - begun) / times, 5)}
    return found | ({"peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2)} if on_gpu else {})


def scan(section: Section, device: str, small: bool, keep: str = "") -> dict[str, Any]:
    """Scan a net by the command line, and return verdict, seconds, and the best clip of each attack."""
    net = f"{NETS}:{section.small if small else section.net}"
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.json"
        command = [sys.executable, "-m", "auditor", "scan", net, "--layout", section.layout]
        # A preset's budget is counted work, not time: on a GPU it ends sooner, after the same steps.
        command += ["--device", device, *(["--max-time", "12s"] if small else ["--preset", "standard"])]
        kept = Path(keep or folder) / section.name.replace(" ", "_")
        with kept.with_suffix(".log").open("w") as log:
            done = subprocess.run([*command, "--no-resume", "-o", str(results)], cwd=ROOT, stdout=log, stderr=log)
        if not results.exists():
            raise RuntimeError(kept.with_suffix(".log").read_text().strip()[-800:])
        found = json.loads(results.read_text())
        if keep:
            shutil.copy(results, kept.with_suffix(".json"))
    best: dict[str, float] = {}
    for finding in found["findings"]:
        scores = [r["score"]["psnr"] for r in finding["results"] if r["score"]["psnr"] is not None]
        best[finding["attack"]] = round(max([best.get(finding["attack"], 0.0), *scores]), 1)
    failed = [f"{s['what']}: {s['reason']}" for s in found["skipped"] if s["because"] == "failed"]
    cut = sorted({s["what"] for s in found["skipped"] if s["because"] == "out-of-budget"})
    return {
        "verdict": found["verdict"]["word"], "exit": done.returncode, "device": found["environment"]["device"],
        "seconds": round(found["tool"]["seconds"], 1), "work_a_second": found["environment"].get("work_a_second"),
        "step_work": found["environment"].get("seconds_per_step"), "best_db": best, "failed": failed, "cut": cut,
    }  # fmt: skip


def peers(section: Section, device: str, small: bool, path: str = "") -> dict[str, Any]:
    """Run the comparison with breaching on one small net; both sides run on the processor."""
    command = [sys.executable, "benchmarks/peers.py", "--json", "--seconds", "1" if small else "8"]
    command += ["--nets", "conv3d-flatten-relu", "--clips", "park_walker", *(["--peer-path", path] if path else [])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr or done.stdout)[-800:])
    return {"comparison": json.loads(done.stdout)}


RUNS = {"machine": machine, "tests": tests, "steps": steps, "scan": scan, "peers": peers}


# --------------------------------------------------------------------------------------------- what watches over it


@contextmanager
def watched() -> Iterator[list[tuple[float, float]]]:
    """Collect (utilisation in percent, memory in MiB) twice a second, where nvidia-smi is."""
    seen: list[tuple[float, float]] = []
    if shutil.which("nvidia-smi") is None:
        yield seen
        return
    query = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits", "-lms", "500"]
    process = subprocess.Popen(query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def read() -> None:
        for line in process.stdout or ():
            parts = line.split(",")
            if len(parts) == 2 and all(part.strip().isdigit() for part in parts):
                seen.append((float(parts[0]), float(parts[1])))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield seen
    finally:
        process.terminate()
        reader.join(2.0)


def run(section: Section, given: argparse.Namespace, left: float) -> Outcome:
    """Run one section in a process of its own, and say what became of it."""
    missing = [
        m for m in section.needs if importlib.util.find_spec(m) is None and not (m == "breaching" and given.peer_path)
    ]
    if missing:
        return Outcome(section.name, "left out", reason=f"{', '.join(missing)} is not installed")
    limit = min(left, given.limit or (section.small_limit if given.small else section.limit))
    if limit < 5.0:
        return Outcome(section.name, "left out", reason="no time was left")
    command = [sys.executable, __file__, "--section", section.name, "--device", given.device]
    command += [*(["--small"] if given.small else []), *(["--peer-path", given.peer_path] if given.peer_path else [])]
    command += ["--keep", given.keep] if given.keep else []
    begun = time.monotonic()
    with (
        watched() as seen,
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as process,
    ):
        try:
            said, complaints = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with what it started itself
            process.communicate()
            return _seen(Outcome(section.name, "timed out", limit, f"it took more than {limit:.0f} s"), seen)
    seconds = round(time.monotonic() - begun, 1)
    try:
        answer = json.loads(said.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return _seen(Outcome(section.name, "failed", seconds, complaints.strip()[-800:]), seen)
    if "error" in answer:
        return _seen(Outcome(section.name, "failed", seconds, answer["error"]), seen)
    return _seen(Outcome(section.name, "ran", seconds, measured=answer), seen)


def _seen(outcome: Outcome, seen: Sequence[tuple[float, float]]) -> Outcome:
    if seen:
        outcome.utilisation_percent = round(sum(u for u, _ in seen) / len(seen), 1)
        outcome.memory_mib = max(m for _, m in seen)
    return outcome


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the sections as rows of Markdown."""
    rows = ["| section | state | seconds | GPU busy | memory | measured |", "|---|---|---|---|---|---|"]
    for o in outcomes:
        busy = "-" if o.utilisation_percent is None else f"{o.utilisation_percent:.0f}%"
        memory = "-" if o.memory_mib is None else f"{o.memory_mib / 1024:.1f} GiB"
        told = o.reason.splitlines()[-1] if o.reason else json.dumps(o.measured)
        rows.append(f"| {o.section} | {o.state} | {o.seconds:.0f} | {busy} | {memory} | {told[:300]} |")
    return "\n".join(rows)


def gpu_is_missing(device: str) -> bool:
    """Tell whether a GPU is asked for that is not there; asked in a process of its own, as torch may not import."""
    question = "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 1)"
    return (
        device.startswith("cuda")
        and subprocess.run([sys.executable, "-c", question], capture_output=True).returncode != 0
    )


def main() -> int:
    """Run all sections, or one where this is the process of one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="small nets, to see that the script works")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where results go as JSON")
    parser.add_argument("--peer-path", default="", metavar="DIR", help="where breaching was installed, if not here")
    parser.add_argument("--keep", default="", metavar="DIR", help="where results and progress of scans are kept")
    parser.add_argument("--limit", type=float, metavar="SECONDS", help="of a section, in place of its own")
    parser.add_argument("--only", nargs="+", metavar="SECTION", choices=[s.name for s in SECTIONS])
    parser.add_argument("--section", choices=[s.name for s in SECTIONS], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.section:
        return _one(given)
    if gpu_is_missing(given.device):
        print(
            "there is no GPU here that PyTorch can use; --device cpu --small tries the script itself", file=sys.stderr
        )
        return USAGE
    begun, outcomes = time.monotonic(), []
    for section in SECTIONS:
        if given.only and section.name not in given.only:
            continue
        outcomes.append(run(section, given, TOTAL - (time.monotonic() - begun)))
        print(
            f"{outcomes[-1].section}: {outcomes[-1].state}, {outcomes[-1].seconds:.0f} s", file=sys.stderr, flush=True
        )
        if given.out:  # after each: what was measured is there, whatever comes
            given.out.write_text(json.dumps([asdict(o) for o in outcomes], indent=2) + "\n")
    print(table(outcomes))
    return int(any(o.state in ("failed", "timed out") for o in outcomes))


def _one(given: argparse.Namespace) -> int:
    """Run one section here; the last line of the output is its JSON."""
    sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
    section = next(s for s in SECTIONS if s.name == given.section)
    kind = section.name.split()[0]
    extra = {"peers": {"path": given.peer_path}, "scan": {"keep": given.keep}}.get(kind, {})
    try:
        print(json.dumps(RUNS[kind](section, given.device, given.small, **extra)))
    except Exception as error:  # noqa: BLE001 - whatever a machine that nobody has tried brings, the others go on
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
