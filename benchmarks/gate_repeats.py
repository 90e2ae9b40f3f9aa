"""Repeat a scan of an unchanged model, and of five planted regressions; count what the gate says of each.

Usage: python benchmarks/gate_repeats.py FOLDER [--repeats 20] [--seeds 5] [--steps 40] [CASE ...]

Every repeat is a scan by a process of its own, half of them beside a busy one, held by `fl-audit gate` against one
baseline of the first seed. Repeats that are in the folder already are not made again.
"""

import argparse
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from repeats import neighbour
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "gate"))
import story_nets

HEAD = (
    "| change | repeats (busy ones) | gate failed | of these on | gate passed | could not tell | CPU seconds a scan |\n"
    "|---|---|---|---|---|---|---|"
)
POLICY = ("--fail-on", "never", "--fail-on-regression", "--inconclusive", "new")


@dataclass(frozen=True)
class State:
    """A model as it is exported, and what a client does with it."""

    net: Callable[[], nn.Module]
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """The accepted state, and what is scanned again and again; `regression` tells whether the gate is to fail."""

    before: State
    after: State
    regression: bool


def positions(learned: bool, *options: str) -> State:
    """A video transformer, with fixed or learned positions."""
    return State(lambda: story_nets.transformer(learned), options)


def convolutions(flat: bool, *options: str) -> State:
    """Two convolutions before an average pool, or before a flatten."""
    return State(lambda: story_nets.pooled(flat), options)


CASES = {
    "unchanged: transformer, fixed positions": Case(positions(False), positions(False), False),
    "unchanged: convolutions, pooled": Case(convolutions(False), convolutions(False), False),
    "fixed positions to learned ones": Case(positions(False), positions(True), True),
    "average pool to flatten": Case(convolutions(False), convolutions(True), True),
    "stride 2 to 1": Case(
        State(story_nets.strided), State(lambda: story_nets.strided(1)), True
    ),
    "only the head is sent, to everything": Case(positions(True, "trainable=head.*"), positions(True), True),
    "noise on the update, to none": Case(convolutions(True, "defence=gaussian:0.01"), convolutions(True), True),
}  # fmt: skip


def scan_into(path: Path, model: str, seed: int, steps: int, options: Sequence[str]) -> None:
    """Scan two clips with few steps and no enhancement, which no gate looks at; write results.json."""
    from auditor.attack import PRESETS
    from auditor.pipeline import ScanOptions, Silent, scan
    from auditor.report import write

    fast = PRESETS["fast"]
    PRESETS["fast"] = replace(fast, steps=steps, probes=2, seconds=600.0, most_seconds=600.0)
    importlib.import_module("auditor.pipeline.scan")
    sys.modules["auditor.pipeline.scan"].enhance_results = lambda *_: ({}, ())  # type: ignore[attr-defined]
    given: dict[str, Any] = {name: (value,) for name, value in (o.split("=", 1) for o in options)}
    begun = time.process_time()
    results = scan(ScanOptions(model=model, seed=seed, **given), Silent()).results
    write(results, [path])
    path.with_suffix(".cpu").write_text(f"{time.process_time() - begun:.1f}")


def scanned(folder: Path, name: str, state: State, seed: int, steps: int, busy: bool) -> Path:
    """Return the results of a scan of a state, made now or before."""
    path, model = folder / f"{name}.json", folder / f"{name}.onnx"
    if not path.with_suffix(".cpu").exists():
        story_nets.exported(state.net(), model)
        command = [sys.executable, __file__, str(folder), "--scan", str(path), str(model), str(seed), str(steps)]
        with neighbour(busy):
            subprocess.run([*command, *state.options], check=True)
    return path


def gated(path: Path, baseline: Path) -> tuple[int, list[str]]:
    """Return the exit code of the gate and why it failed."""
    command = [sys.executable, "-m", "auditor", "gate", str(path), "--baseline", str(baseline), *POLICY]
    judged = path.with_suffix(".judged.json")
    if not judged.exists():
        subprocess.run([*command, "-o", str(judged)], check=False, capture_output=True)
    judgement = json.loads(judged.read_text())["judgement"]
    rules = [f"{a['rule']} ({a['subject']})" for a in judgement["alerts"] if a["fails"]]
    return int(judgement["exit_code"]), rules


def row(folder: Path, name: str, repeats: int, seeds: int, steps: int) -> str:
    """Scan what is missing, and return what the gate said."""
    case, short = CASES[name], str(list(CASES).index(name))
    baseline = scanned(folder, f"{short}-baseline", case.before, 0, steps, busy=False)
    codes, alerts, cpu, loaded = [], [], [], 0
    for k in range(repeats):
        busy = (k // seeds) % 2 == 1
        loaded += busy
        path = scanned(folder, f"{short}-{k}", case.after, k % seeds, steps, busy)
        code, rules = gated(path, baseline)
        codes.append(code)
        alerts += rules
        cpu.append(float(path.with_suffix(".cpu").read_text()))
    told = ", ".join(f"{alert}: {alerts.count(alert)}" for alert in dict.fromkeys(alerts)) or "—"
    failed, passed, unsure = (codes.count(c) for c in (1, 0, 4))
    mean = sum(cpu) / len(cpu)
    return f"| {name} | {repeats} ({loaded}) | {failed} | {told} | {passed} | {unsure} | {mean:.0f} |"


def main() -> None:
    """Print the table, a row as soon as it is there."""
    if "--scan" in sys.argv:
        path, model, seed, steps, *options = sys.argv[sys.argv.index("--scan") + 1 :]
        scan_into(Path(path), model, int(seed), int(steps), options)
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("cases", nargs="*", default=list(CASES))
    chosen = parser.parse_intermixed_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    print(HEAD, flush=True)
    for name in chosen.cases:
        print(row(chosen.folder, name, chosen.repeats, chosen.seeds, chosen.steps), flush=True)


if __name__ == "__main__":
    main()
