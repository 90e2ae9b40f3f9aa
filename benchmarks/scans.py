"""Scan the benchmark nets, exported to ONNX by both of PyTorch's exporters with default settings; print a table.

Usage: python benchmarks/scans.py [--max-time 2m] [NET ...]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
from nets import NETS

HEAD = (
    "| net | exporter | verdict | best attack | PSNR | gain over blind | grade | exposed | blind | seconds |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def scan(net, exporter: str, max_time: str) -> str:
    """Export, scan, and return a row."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                net().eval(), (torch.rand(1, 3, 8, 32, 32),), str(path), dynamo=exporter == "dynamo", verbose=False
            )
        begun = time.monotonic()
        results = Path(folder) / "results.json"
        done = subprocess.run(
            [sys.executable, "-m", "auditor", "scan", str(path), "-o", str(results), "--max-time", max_time],
            capture_output=True,
            text=True,
            check=False,
        )
        if not results.exists():
            return f"| {net.__name__} | {exporter} | {done.stderr.strip().splitlines()[-1]} | | | | | | | |"
        found = json.loads(results.read_text())
    best = found["findings"][0] if found["findings"] else None
    top = max((r for r in best["results"] if r["kind"] != "canary"), key=lambda r: r["score"]["gain"]) if best else None
    exposure = found["exposure"]["all"] or {"psnr": float("nan"), "prior": float("nan")}
    cells = (
        net.__name__, exporter, f"{found['verdict']['word']} (exit {found['verdict']['exit_code']})",
        best["attack"] if best else "-", f"{top['score']['psnr']:.1f}" if top else "-",
        f"{top['score']['gain']:+.1f}" if top else "-", best["grade"] if best else "-",
        f"{exposure['psnr']:.1f}", f"{exposure['prior']:.1f}", f"{time.monotonic() - begun:.0f}",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Run all nets, or those named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nets", nargs="*", metavar="NET", choices=[*(n.__name__ for n in NETS), []])
    parser.add_argument("--max-time", default="2m")
    given = parser.parse_args()
    print(HEAD, flush=True)
    for net in NETS:
        if not given.nets or net.__name__ in given.nets:
            for exporter in ("dynamo", "torchscript"):
                print(scan(net, exporter, given.max_time), flush=True)


if __name__ == "__main__":
    main()
