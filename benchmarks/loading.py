"""What loading an ONNX file costs beside ONNX's own reader and runtime, and how fast the imported network is.

Usage: python benchmarks/loading.py [--clip 3,8,32,32] [--rounds 5] [--json FILE]

torchvision's r3d_18 is exported by dynamo, with its defaults and with optimize=False. Each round measures everything
once, one after the other, and ratios are taken within a round, so that another program disturbs both sides alike. The
median over rounds is printed.
"""

import argparse
import contextlib
import io
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from auditor.model import load  # noqa: E402
from auditor.model.onnx.from_onnx import understood  # noqa: E402
from auditor.model.onnx.interpreter import OnnxModule  # noqa: E402
from auditor.model.onnx.operators import OPERATORS  # noqa: E402


def seconds(run: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return how long a call takes."""
    begun = clock()
    run()
    return clock() - begun


def exported(net: nn.Module, path: Path, shape: tuple[int, ...], optimize: bool) -> Path:
    """Write a net by dynamo, in silence."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net, (torch.rand(1, *shape),), str(path), dynamo=True, optimize=optimize, verbose=False, external_data=False
        )
    return path


def read_by_onnx(path: Path) -> None:
    """Read a file and open a session: what anybody who runs the model pays."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    onnx.load(path)
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def imported(path: Path) -> OnnxModule:
    """Read a file, check it, find its parameters and build the module; nothing runs."""
    _, graph, found, _ = understood(path, OPERATORS, None)
    return OnnxModule(graph, found, 1).eval()


def forward(net: nn.Module, clip: Tensor) -> None:
    """Run a net without derivatives."""
    with torch.no_grad():
        net(clip)


def twice(net: nn.Module, clip: Tensor) -> None:
    """Differentiate the squared norm of the gradient by the clip: one step of a gradient attack."""
    clip = clip.clone().requires_grad_()
    parameters = [p for p in net.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(net(clip).square().sum(), parameters, create_graph=True)
    torch.autograd.grad(sum(g.square().sum() for g in gradients), clip)


def measure(net: nn.Module, path: Path, shape: tuple[int, ...], rounds: int) -> dict[str, float]:
    """Return medians in seconds, and medians of ratios within a round."""
    clip = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    module = imported(path)
    runs: dict[str, Callable[[], Any]] = {
        "onnx": lambda: read_by_onnx(path),
        "import": lambda: imported(path),
        "forward": lambda: forward(module, clip),
        "forward_original": lambda: forward(net, clip),
        "twice": lambda: twice(module, clip),
        "twice_original": lambda: twice(net, clip),
    }
    for name in runs:
        runs[name]()  # what is done once: plans, caches
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in list(runs) if number % 2 == 0 else reversed(runs):
            taken[name].append(seconds(runs[name]))
    found = {name: statistics.median(values) for name, values in taken.items()}
    for name, above, below in (
        ("import_ratio", "import", "onnx"),
        ("forward_ratio", "forward", "forward_original"),
        ("twice_ratio", "twice", "twice_original"),
    ):
        found[name] = statistics.median(a / b for a, b in zip(taken[above], taken[below], strict=True))
    # Of this process alone: other programs disturb it least.
    pairs = [[seconds(runs[name], time.process_time) for name in ("import", "onnx")] for _ in range(rounds)]
    found["import_cpu_ratio"] = statistics.median(a / b for a, b in pairs)
    found["load"] = seconds(lambda: load(str(path)))
    return found


def main() -> None:
    """Measure, print a table, and write JSON where wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip", default="3,8,32,32", help="channels,frames,height,width")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="file for the numbers")
    asked = parser.parse_args()
    shape = tuple(int(extent) for extent in asked.clip.split(","))
    from torchvision.models.video import r3d_18

    torch.manual_seed(0)
    net = r3d_18(weights=None).eval()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, optimize in (("defaults", True), ("optimize=False", False)):
            path = exported(net, Path(folder) / f"{optimize}.onnx", shape, optimize)
            results[name] = measure(net, path, shape, asked.rounds)
    print(
        "| export | onnx.load + session | import | ratio | CPU ratio | forward ratio | twice ratio | load and checks |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, r in results.items():
        print(
            f"| {name} | {r['onnx']:.2f} s | {r['import']:.2f} s | {r['import_ratio']:.2f} "
            f"| {r['import_cpu_ratio']:.2f} | {r['forward_ratio']:.2f} "
            f"| {r['twice_ratio']:.2f} | {r['load']:.1f} s |"
        )
    if asked.json:
        told = {"clip": shape, "rounds": asked.rounds, "threads": torch.get_num_threads(), "results": results}
        asked.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
