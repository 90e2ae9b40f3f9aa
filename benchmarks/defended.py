"""What whole scans find under every generic defence and every framework's preset: the table of docs/defences.md.

    python benchmarks/defended.py FOLDER [--nets conv3d_flatten vivit r3d_18] [--defences D ...] [--max-time 60s]

Each scan is one run of the command line on one net of `nets.py` at 8x32x32, one at a time. Its results stay in the
folder, and the same command goes on with those that are missing. The table at the end has the date of every scan.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
NETS = ("conv3d_flatten", "vivit", "r3d_18")
# A row is what is given behind --defence, in order. What frameworks have no default for is set as their examples do.
GENERIC: Mapping[str, tuple[str, ...]] = {
    name: tuple(name.split("+")) if name else ()
    for name in (
        "", "clip:1", "clamp:0.001", "gaussian:0.001", "gaussian:0.01", "gaussian:0.1", "clip:1+gaussian:0.01",
        "laplace:0.01", "relative-gaussian:0.1,95", "top-k:0.1", "random-k:0.1", "prune:0.9", "exclude:*bias", "sign",
        "quantise:4", "float16", "fixed-point:8,4194304", "qsgd:32", "kmeans:6", "eden:2,100", "sparse-ternary:0.1",
        "secure-aggregation:4", "server:gaussian:1",
    )
}  # fmt: skip
PRESETS: Mapping[str, tuple[str, ...]] = {
    name: (name,)
    for name in (
        "flower-local-dp:clipping_norm=1,sensitivity=1e-4,epsilon=10,delta=1e-5",
        "flower-client-fixed:noise_multiplier=1,clipping_norm=1,num_sampled_clients=10",
        "flower-server-fixed:noise_multiplier=1,clipping_norm=1,num_sampled_clients=10",
        "flower-client-adaptive:noise_multiplier=1,num_sampled_clients=100",
        "flower-server-adaptive:noise_multiplier=1,num_sampled_clients=100",
        "flower-secagg-plus:num_clients=4",
        "nvflare-percentile-privacy",
        "nvflare-svt-privacy",
        "nvflare-exclude-vars:exclude_vars=bias",
        "nvflare-model-quantizer",
        "nvflare-gaussian-privacy",
        "opacus-dp-sgd:noise_multiplier=1,max_grad_norm=1",
        "fedbiomed-central:sigma=1,clip=1",
        "fedml-local-dp:epsilon=1",
        "fedml-topk",
        "fedml-qsgd",
        "tff-gaussian-adaptive:noise_multiplier=1,clients_per_round=100",
        "openfl-stc",
        "openfl-kc",
        "openfl-eden",
    )
}
ROWS = {**GENERIC, **PRESETS}


def scanned(net: str, row: str, folder: Path, max_time: str) -> dict[str, Any]:
    """Return the results of one scan, from the folder where they are there already."""
    path = folder / f"{net}-{''.join(c if c.isalnum() else '_' for c in row) or 'bare'}.json"
    if not path.exists():
        given = [word for spec in ROWS[row] for word in ("--defence", spec)]
        command = [
            sys.executable, "-m", "auditor", "scan", f"benchmarks/nets.py:{net}", "--input-shape", "3,8,32,32",
            "--max-time", max_time, "--jobs", "1", "--no-what-if", "--quiet",
            "-o", str(path.with_suffix(".part.json")), *given,
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if not path.with_suffix(".part.json").exists():
            raise SystemExit(f"{net} under {row or 'nothing'}: {done.stderr.strip()}")
        used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
        results = json.loads(path.with_suffix(".part.json").read_text())
        path.with_suffix(".part.json").unlink()
        path.write_text(json.dumps({"net": net, "row": row, "code": done.returncode, "cpu": used, "results": results}))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def cells(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the cells of a row."""
    r = found["results"]
    yield found["net"]
    yield f"`{found['row']}`" if found["row"] else "none"
    yield f"{r['verdict']['word']}, {found['code']}"
    blind = [(f, x) for f in r["findings"] if f["reference"] == "R0" for x in f["results"] if x["kind"] != "canary"]
    best = max(blind, key=lambda pair: float(pair[1]["score"]["psnr"]), default=None)
    yield "no attack" if best is None else f"{float(best[1]['score']['psnr']):.1f} dB, {best[0]['attack']}"
    seen = r["exposure"]["all"]
    yield "not measured" if seen is None else f"{seen['psnr']:.1f} of {seen['cap']:.1f} dB"
    yield ", ".join(name for d in r["protocol"].get("defences", ()) for name in d["unknown_to"]) or "none"
    yield f"{found['cpu']:.0f} s"
    yield r["tool"]["started"][:10]


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--nets", nargs="*", default=list(NETS))
    parser.add_argument("--defences", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--max-time", default="60s")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    head = ("net", "defence", "verdict, exit", "best picture", "exposed", "no form", "CPU", "date")
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for net in arguments.nets:
        for row in arguments.defences:
            lines.append(f"| {' | '.join(cells(scanned(net, row, folder, arguments.max_time)))} |")
            print(lines[-1], flush=True)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
