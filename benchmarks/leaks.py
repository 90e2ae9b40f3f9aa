"""Scans of nets and protocols that are known to give clips away: none may end in PASS.

Usage: python benchmarks/leaks.py [--held-out] [--only WORD ...] [--max-time SECONDS] [--json]

Each row names the attack that is known to read its updates, and who showed it. Nets are small (`leaking_nets.py`, clips
of 8x16x16), two shipped clips and a canary, preset `fast` with 400 steps. WARN is right only where labels or the
identity of a clip are all that is known (`gist`); the program exits with the number of rows that break this. Positive
controls, the same for every net, and super-resolution are left out: neither makes a verdict better than it is here.
"""

import argparse
import dataclasses
import importlib
import json
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from auditor.attack import PRESETS  # noqa: E402
from auditor.errors import AuditError  # noqa: E402
from auditor.pipeline import ScanOptions, Silent, scan  # noqa: E402

NETS = Path(__file__).parent / "leaking_nets.py"
# Two clips are the least that a WARN or a PASS rests on.
WHOLE = dataclasses.replace(PRESETS["fast"], probes=2, steps=400)
PHONG = "linear-input (Phong et al. 2018)"
FEDAVG = {"algorithm": "FedAvg", "local_epochs": 1, "learning_rate": 0.01}


@dataclasses.dataclass(frozen=True)
class Leak:
    """A net, how it is trained, and the attack that is known to read its updates; `gist` where no picture is known."""

    net: str
    attack: str
    protocol: Mapping[str, Any] = field(default_factory=dict)
    gist: bool = False

    @property
    def name(self) -> str:
        """The net, and what differs from the default protocol."""
        return " ".join((self.net, *(f"{k}={v}" for k, v in self.protocol.items())))


LEAKS = (
    Leak("linear", PHONG),
    Leak("linear_two_classes", PHONG),
    Leak("linear", PHONG, {"loss": "bce"}),
    Leak("mlp", PHONG),
    Leak("mlp_two_classes", PHONG),
    Leak("mlp", PHONG, {"loss": "bce"}),
    Leak("mlp", PHONG, FEDAVG),
    Leak("mlp_trained", PHONG),
    Leak("mlp_rounded", PHONG),
    Leak("mlp_rounded_two_classes", PHONG),
    Leak("mlp_wide", "spear (Dimitrov et al. 2024)", {"batch": 2}),
    Leak("flat", "gradient-matching (Geiping et al. 2020)"),
    Leak("flat_two_classes", "layer-recursion (R-GAP, Zhu & Blaschko 2021)"),
    Leak("flat_relu", "layer-recursion (R-GAP)"),
    Leak("flat_sigmoid", "gradient matching (DLG, Zhu et al. 2019)"),
    Leak("flat_wide", "least-squares-matching"),
    Leak("flat_centred_under_no_grad", "layer-recursion (R-GAP)"),
    Leak("flat_trained", "least-squares-matching"),
    Leak("flat_groupnorm", "least-squares-matching"),
    Leak("flat_without_bias", "gradient-matching (Geiping et al. 2020)"),
    Leak("flat", "least-squares-matching", {"batch": 2}),
    Leak("flat", "layer-recursion (R-GAP)", {"loss": "bce"}),
    Leak("flat", "layer-recursion on the mean step (Dimitrov et al. 2022)", FEDAVG),
    Leak("flat_two_classes", "layer-recursion on the mean step", {**FEDAVG, "local_epochs": 5}),
    Leak("pooled", "layer-recursion (R-GAP)"),
    Leak("pooled_two_classes", "layer-recursion (R-GAP)"),
    Leak("pooled", "labels alone (iDLG, Zhao et al. 2020)", {"trainable": ("body.6.bias",)}, gist=True),
    Leak("pooled_batchnorm", "layer-recursion (R-GAP)"),
    Leak("pooled_batchnorm", "least-squares-matching", {"bn": "train", "batch": 2}),
    Leak("pooled_trained", "layer-recursion (R-GAP)"),
    Leak("tokens", "patch-embedding (APRIL, Lu et al. 2022)"),
    Leak("tokens_two_classes", "patch-embedding (APRIL)"),
    Leak("tokens_fixed", "token-spans (DAGER, Petrov et al. 2024)"),
    Leak("frames_gru", "span-inversion: the GRU's weight spans the features of the frames"),
    Leak("frames_lstm_detached", "least-squares-matching through the cut backbone"),
    Leak("frames_gru_no_grad", "least-squares-matching through the cut backbone"),
    Leak("frames_mean", "feature-inversion: the head's gradient is the mean of the features"),
    Leak("frames_mean", "feature-inversion of the head alone", {"trainable": ("body.head.*",)}),
    Leak("residual", "residual-recursion"),
    Leak("residual_two_classes", "residual-recursion"),
)

# Added later; no attack and no verdict was changed for them.
HELD_OUT = (
    Leak("mlp_tanh", PHONG),
    Leak("mlp_tanh", PHONG, {**FEDAVG, "local_epochs": 5}),
    Leak("mlp_silu_wide", PHONG, {"loss": "bce"}),
    Leak("mlp_through_numpy", PHONG),
    Leak("mlp_one_frame", PHONG),
    Leak("mlp_one_channel", PHONG),
    Leak("mlp_wide_relu", "spear (Dimitrov et al. 2024)", {"batch": 2}),
    Leak("mlp", PHONG, {"trainable": ("body.1.*",)}),
    Leak("flat_silu", "gradient-matching (Geiping et al. 2020)"),
    Leak("flat_tanh_two_classes", "layer-recursion (R-GAP)", {"loss": "bce"}),
    Leak("flat_trained_two_classes", "least-squares-matching", {"batch": 2}),
    Leak("flat_through_numpy", "layer-recursion (R-GAP)"),
    Leak("flat_batchnorm", "least-squares-matching", {"bn": "train", "batch": 2}),
    Leak("depthwise", "gradient-matching (Geiping et al. 2020)"),
    Leak("tokens_class", "patch-embedding (APRIL, Lu et al. 2022)"),
    Leak("tokens_class_two_classes", "patch-embedding (APRIL)", {"loss": "bce"}),
    Leak("frames_gru_two_classes", "span-inversion"),
    Leak("frames_mean", "feature-inversion", FEDAVG),
)


def scanned(options: ScanOptions) -> Mapping[str, Any]:
    """Scan by closed forms, and by the whole preset where these show nothing: no attack undoes what another showed."""
    closed = tuple(a for a in WHOLE.attacks if a.closed_form)
    for preset in (dataclasses.replace(WHOLE, attacks=closed), WHOLE):
        PRESETS["fast"] = preset
        found: Mapping[str, Any] = scan(options, Silent()).results
        if found["verdict"]["word"] == "FAIL":
            break
    return found


def row(leak: Leak, seconds: float | None) -> dict[str, Any]:
    """Scan one net and tell how that ended."""
    begun, used = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_utime
    options = ScanOptions(model=f"{NETS}:{leak.net}", max_time=seconds, trust_model=True, **leak.protocol)
    told: dict[str, Any] = {"net": leak.name, "known": leak.attack}
    try:
        found = scanned(options)
    except AuditError as error:
        return {**told, "verdict": f"refused: {error}", "grade": "", "attack": "", "psnr": None, "right": False}
    best = next(iter(found["findings"]), None)
    grade = best["grade"] if best else "NOT_SHOWN"
    word = found["verdict"]["word"]
    return {
        **told,
        "verdict": word,
        "grade": grade,
        "attack": best["attack"] if best else "",
        "psnr": max((min(float(r["score"]["psnr"]), 200.0) for r in best["results"]), default=None) if best else None,
        "right": word in ("FAIL", "INCONCLUSIVE") or (word == "WARN" and leak.gist),
        "reasons": found["verdict"]["reasons"],
        "cpu": resource.getrusage(resource.RUSAGE_SELF).ru_utime - used,
        "wall": time.monotonic() - begun,
    }


def main() -> int:
    """Print one row a scan; return how many ended as no leaking net may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD", help="rows whose name holds one of these")
    parser.add_argument("--held-out", action="store_true", help="the nets that were added later, in place of the first")
    parser.add_argument("--max-time", type=float, help="seconds of each scan; the preset's without")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    module = importlib.import_module("auditor.pipeline.scan")
    module.positive_controls = lambda *given: ()
    module.enhance_results = lambda *given: ({}, ())
    wrong = 0
    for leak in HELD_OUT if options.held_out else LEAKS:
        if options.only and not any(word in leak.name for word in options.only):
            continue
        made = row(leak, options.max_time)
        wrong += not made["right"]
        if options.json:
            print(json.dumps(made), flush=True)
            continue
        level = "" if made["psnr"] is None else f"{made['psnr']:.1f} dB"
        cells = (made["net"], made["known"], made["verdict"], made["grade"], f"{made['attack']} {level}".strip())
        print(f"| {' | '.join(cells)} |", flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
