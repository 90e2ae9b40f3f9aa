"""What scans find under every generic defence and every framework's preset: the table of docs/defences.md.

    python benchmarks/defended.py FOLDER [--nets conv3d_flatten vivit r3d_18] [--defences D ...]

Each is a scan of two real clips and a canary at 8x32x32 with counted work, so that a busy machine gives the same table:
preset `fast` without frames of the scene, `SECONDS` reference seconds, and more where a recursion needs them. Defences
under which the client sends the same are scanned once. Results stay in the folder, and the same command goes on with
those that are missing. The table at the end has the date of every scan.
"""

import argparse
import datetime
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

import torch  # noqa: E402

from auditor.attack import PRESETS as EFFORTS  # noqa: E402
from auditor.federated import parse_all  # noqa: E402
from auditor.federated.compression import Unchanged  # noqa: E402
from auditor.options import ScanOptions  # noqa: E402
from auditor.pipeline.progress import Silent  # noqa: E402
from auditor.pipeline.scan import choose_device, load_target, scan  # noqa: E402
from auditor.pipeline.time_plan import Prepared  # noqa: E402
from auditor.pipeline.units import uses_reference  # noqa: E402
from auditor.records import at_client  # noqa: E402

# Reference seconds of a scan, and with attacks that are planned by what they compute.
SECONDS = {"conv3d_flatten": 30.0, "vivit": 30.0, "r3d_18": 100.0}
MOST_SECONDS = 600.0
# In fewer modes linear analysis says little: 100 seconds hold 16 on r3d_18.
_FEWEST_MODES = 64
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


def sent(row: str) -> tuple[str, ...]:
    """Return what the client does to its update: defences of which this is the same send the same."""
    return tuple(str(d) for d in at_client(parse_all(ROWS[row])) if not isinstance(d, Unchanged))


def scanned(net: str, row: str, folder: Path) -> dict[str, Any]:
    """Return one scan, from the folder where it is there already."""
    path = folder / f"{net}-{''.join(c if c.isalnum() else '_' for c in '+'.join(sent(row))) or 'bare'}.json"
    if not path.exists():
        options = ScanOptions(
            model=f"{ROOT / 'benchmarks' / 'nets.py'}:{net}", input_shape=(3, 8, 32, 32), device="cpu", what_if=False,
            malicious_server=False, defence=ROWS[row],
        )  # fmt: skip
        fast = EFFORTS["fast"]
        effort = replace(
            fast, seconds=SECONDS[net], most_seconds=MOST_SECONDS, probes=2,
            attacks=tuple(a for a in fast.attacks if not uses_reference(a)),
        )  # fmt: skip
        prepared = Prepared(target=load_target(options, choose_device("cpu")), preset=effort, seconds=None)
        begun = time.process_time()
        results = scan(options, Silent(), prepared).results
        made = {
            "net": net, "row": row, "cpu": time.process_time() - begun, "date": datetime.date.today().isoformat(),
            "results": results,
        }  # fmt: skip
        partly = path.with_suffix(".part")
        partly.write_text(json.dumps(made))
        partly.rename(path)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def told(found: Mapping[str, Any]) -> str:
    """Return the cell of a scan: verdict, the best picture of a real clip with its attack, and what is exposed."""
    r = found["results"]
    real = [(x["score"]["psnr"], f["attack"]) for f in r["findings"] for x in f["results"] if x["kind"] != "canary"]
    best, attack = max(((float(psnr), name) for psnr, name in real), default=(0.0, ""))
    picture = f"{best:.1f} dB, {attack}" if attack else "no attack fits"
    seen, modes = r["exposure"]["all"], r["exposure"]["modes"] or 0
    exposed = "not measured" if seen is None or modes < _FEWEST_MODES else f"{seen['psnr']:.1f}"
    return f"{r['verdict']['word']}: {picture}; exposed {exposed}"


def row_of(row: str, nets: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a row of the table; a defence that was scanned under another name says so."""
    first = next(iter(nets.values()))
    name = f"`{row}`" if row else "none"
    if first["row"] != row:
        name += f" (sends what {'`' + first['row'] + '`' if first['row'] else 'no defence'} does)"
    unmet = sorted({n for f in nets.values() for d in f["results"]["protocol"]["defences"] for n in d["unknown_to"]})
    cells = (name, *map(told, nets.values()), ", ".join(unmet) or "none", max(f["date"] for f in nets.values()))
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--nets", nargs="*", default=list(SECONDS), choices=list(SECONDS))
    parser.add_argument("--defences", nargs="*", default=list(ROWS), choices=list(ROWS))
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    found = {}
    for net in arguments.nets:
        for row in arguments.defences:
            found[net, row] = scanned(net, row, folder)
            print(
                f"{net} under {row or 'nothing'}: {told(found[net, row])}, {found[net, row]['cpu']:.0f} s", flush=True
            )
    head = ("defence", *arguments.nets, "attacks without a form", "date")
    print(f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", sep="\n")
    for row in arguments.defences:
        print(row_of(row, {net: found[net, row] for net in arguments.nets}))


if __name__ == "__main__":
    main()
