"""The same audit twice is the same audit, however fast the machine's clock goes."""

import ast
import dataclasses
import itertools
import time
from pathlib import Path

import pytest
import torch
from short_scans import results_of, short
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from auditor.pipeline import ScanOptions
from auditor.records import (
    Ceiling,
    Clock,
    charge,
    charged,
    counting,
    operation_cost,
    product_seconds,
    repeated,
    work_of,
)
from auditor.records.ceiling import timed_since
from auditor.results.repeatable import without_times

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "tests" / "models_for_scans.py"
OPTIONS = ScanOptions(model=f"{MODELS}:pooled", input_shape=(3, 4, 16, 16), preset="fast")
SEARCHES = ("least-squares-matching", "feature-inversion")

# A module that reads a clock, and what it may do with it: tell. `Ceiling` alone decides by one, and only what begins.
READS_A_CLOCK = {
    "auditor/comparison/run.py": "the date of the comparison",
    "auditor/pipeline/protection/search.py": "the date of the search",
    "auditor/report/updates/defend.py": "the date, as it is written",
    "auditor/report/language/numerals.py": "a date, as a language writes it",
    "auditor/report/language/templates.py": "a date, as a language writes it",
    "auditor/verification/judgement_values.py": "the last day of a waiver, against the day that the results state",
    "auditor/records/ceiling.py": "what would end after --max-time is left out whole, and named",
    "auditor/pipeline/scan.py": "the date of the audit",
    "auditor/pipeline/single_attack/run.py": "the date of the attack",
    "auditor/pipeline/captured/attack.py": "the date of the attack",
    "auditor/pipeline/captured/replay.py": "the date of the replay",
    "auditor/pipeline/documents/audit.py": "the type of the audit's date",
    "auditor/pipeline/documents/attack.py": "the type of the attack's date",
    "auditor/gate/judge.py": "the day on which waivers hold",
    "auditor/gate/waivers.py": "the type of a waiver's last day",
    "auditor/report/ci/sarif.py": "the audit's date, written otherwise",
    "auditor/model/loading.py": "how long loading took, told",
    "auditor/enhance/bicubic.py": "how long it took, told",
    "auditor/enhance/dat.py": "how long it took, told",
    "auditor/enhance/fusion.py": "how long it took, told",
    "auditor/enhance/onnx_net.py": "how long it took, told",
    "auditor/enhance/weight_file.py": "how long it took, told",
    "auditor/runtime_worker.py": "a file's own process is ended when it hangs",
    "auditor/runtime_process.py": "a file's own process is ended when it hangs",
    "auditor/study/run.py": "the date of the study",
    "auditor/study/runner.py": "processor time of a unit, told",
    "auditor/study/unit.py": "processor time of a unit, told",
    "auditor/cli/scan.py": "when the command began, for --max-time",
    "auditor/cli/progress.py": "what is shown while one waits",
    "auditor/pipeline/forecast/costs.py": "seconds of the steps that a plan times",
    "auditor/pipeline/forecast/forecast.py": "seconds of the gradient that a plan times",
    "auditor/pipeline/workers/processes.py": "how slow processes side by side are, for the ceiling",
    "auditor/report/page.py": "the type of the audit's date",
    "auditor/report/pdf.py": "the type of the audit's date",
    "auditor/report/study.py": "the type of the study's date",
}
CLOCKS = {"time", "datetime", "timeit"}


def scanned(monkeypatch, speed: float, **change):
    real, counter = time.monotonic, itertools.count(1)
    with monkeypatch.context() as patch:
        # Not even: a clock that stands still for a while and then jumps, as that of a busy machine seems to.
        patch.setattr(time, "monotonic", lambda: speed * (real() + 0.01 * (next(counter) % 7 == 0)))
        options = dataclasses.replace(OPTIONS, **change)
        return results_of(options, dataclasses.replace(short(200, SEARCHES), seconds=6.0), 1, controls_anew=True)


def test_a_clock_that_runs_ten_times_as_fast_or_slow_changes_nothing_but_times(monkeypatch):
    fast, slow = scanned(monkeypatch, 10.0), scanned(monkeypatch, 0.1)
    assert without_times(fast) == without_times(slow)
    assert fast["tool"]["seconds"] > 5.0 * slow["tool"]["seconds"]
    assert fast["machine_cuts"] == []
    # The budget did decide how far searches went: else this would show nothing.
    assert any(0 < r["steps"] < 200 for f in fast["findings"] for r in f["results"])


@pytest.mark.slow
def test_a_machine_too_slow_for_its_limit_leaves_whole_parts_out_and_cannot_tell(monkeypatch):
    whole, cut = scanned(monkeypatch, 0.01, max_time=30.0), scanned(monkeypatch, 40.0, max_time=30.0)
    assert whole["machine_cuts"] == []
    assert cut["machine_cuts"]
    assert {c["limit"] for c in cut["machine_cuts"]} == {"time"}
    assert (cut["verdict"]["word"], cut["verdict"]["exit_code"]) == ("INCONCLUSIVE", 4)
    assert any("too slow for --max-time" in reason for reason in cut["verdict"]["reasons"])
    # What did run is what runs in any case: nothing was shortened.
    steps = {(f["attack"], r["probe"]): r["steps"] for f in whole["findings"] for r in f["results"]}
    for f in cut["findings"]:
        for r in f["results"]:
            assert r["steps"] == steps[f["attack"], r["probe"]]


def clocks_of(path: Path) -> bool:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import) and any(a.name.split(".")[0] in CLOCKS for a in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in CLOCKS:
            return True
        if isinstance(node, ast.Call) and "Timer" in ast.unparse(node.func):
            return True
    return False


def test_no_other_module_reads_a_clock():
    found = {str(p.relative_to(ROOT)) for p in (ROOT / "auditor").rglob("*.py") if clocks_of(p)}
    assert found == set(READS_A_CLOCK)


def test_work_is_counted_and_the_same_each_time():
    x, w = torch.rand(4, 64), torch.rand(64, 64)
    once = work_of(lambda: x @ w)
    assert once == work_of(lambda: x @ w) > 0.0
    assert work_of(lambda: [x @ w for _ in range(5)]) == pytest.approx(5 * once)
    # Twenty times the rows are more work, and backward passes are work too.
    assert work_of(lambda: x.repeat(200, 1) @ w) > 2 * once
    w.requires_grad_(True)
    assert work_of(lambda: (x @ w).sum().backward()) > 2 * once


def test_a_norm_of_a_matrix_goes_over_it_once():
    matrix = torch.randn(500, 400, dtype=torch.float64)
    once = work_of(lambda: matrix * matrix)
    assert work_of(lambda: torch.linalg.vector_norm(matrix)) <= once
    assert work_of(lambda: torch.linalg.svd(matrix)) > 50 * once


def test_a_clock_of_work_stands_still_while_nobody_works():
    with counting():
        clock = Clock(1.0)
        time.sleep(0.05)
        assert clock.used == 0.0
        charge(0.75)
        assert clock.left == pytest.approx(0.25)


def test_what_is_repeated_is_counted_once_and_charged_each_time():
    calls = []

    def step(k):
        calls.append(k)
        charge(1.0 if k == 0 else 100.0)

    with counting():
        clock, again = Clock(10.0), repeated(step)
        for k in range(4):
            again(k)
        assert clock.used == pytest.approx(4.0)
        with charged(2.0):
            step(1)
        assert clock.used == pytest.approx(6.0)
    assert calls == [0, 1, 2, 3, 1]


def test_what_counts_for_itself_inside_of_charged_work_adds_nothing_to_it():
    with counting():
        clock = Clock(10.0)
        with charged(2.0), counting():
            charge(5.0)
        assert clock.used == pytest.approx(2.0)


def test_a_ceiling_admits_what_ends_in_time_at_the_speed_so_far(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    ceiling = Ceiling(100.0)
    assert ceiling.too_late("invert", "a", 50.0) is None
    with counting():
        charge(10.0)
    now[0] = 40.0  # four times as slow as the reference
    assert ceiling.too_late("invert", "b", 10.0) is None
    late = ceiling.too_late("invert", "c", 30.0)
    assert late is not None
    assert late.because == "out-of-budget"
    now[0] = 101.0
    assert ceiling.over
    assert ceiling.too_late("invert", "d") is not None
    assert [c.what for c in ceiling.cuts] == ["c", "d"]
    assert Ceiling().too_late("invert", "e", 1e9) is None
    now[0] = 130.0
    with timed_since(20.0):
        assert Ceiling(100.0).over  # what went before it was made counts
    assert not Ceiling(100.0).over


def test_the_number_of_threads_changes_no_plan():
    before = torch.get_num_threads()
    net = nn.Sequential(nn.Conv3d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    x = torch.rand(2, 3, 4, 12, 12, requires_grad=True)
    net(x)
    counted = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            counted.append(work_of(lambda: torch.autograd.grad(net(x).sum(), x)))
    finally:
        torch.set_num_threads(before)
    assert counted[0] == counted[1] > 0.0


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: x[0, 0, 0] @ torch.ones(12, 7),
        lambda x: torch.addmm(torch.zeros(12, 7), x[0, 0, 0], torch.ones(12, 7)),
        lambda x: torch.bmm(x[0, 0], torch.ones(4, 12, 5)),
        lambda x: nn.functional.conv2d(x[:, :, 0], torch.ones(48, 3, 3, 3), stride=2),
        lambda x: nn.functional.conv_transpose2d(x[:, :, 0], torch.ones(3, 48, 3, 3), stride=2),
    ],
)
def test_products_cost_what_pytorch_counts_of_them(compute):
    x = torch.rand(2, 3, 4, 12, 12, requires_grad=True)

    def both_ways():
        torch.autograd.grad(compute(x).square().sum(), x)

    with FlopCounterMode(display=False) as counter:
        both_ways()
    # In operations of a net so small most is overhead: a thousand times the price leaves the products.
    plain = work_of(both_ways)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operation_cost, "_PER_FLOP", 1000.0 * operation_cost._PER_FLOP)
        dear = work_of(both_ways)
    assert dear - plain == pytest.approx(999.0 * product_seconds(counter.get_total_flops()), rel=1e-6)
