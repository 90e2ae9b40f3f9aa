"""Rank correlation between the exposure of a layer and the best attack on that layer alone.

Usage: python benchmarks/layers.py [--nets NAME ...] [--clips NAME ...] [--steps 600] [--json]

Exposure says what a layer's gradient determines of a clip (a linear attacker with a prior); the attack, least squares
matching with nothing but that layer's gradient, shows what was recovered. If both are right, they put the layers in the
same order.
Smooth nets of `suite.py`, and three more; fresh weights, shipped clips at 8x32x32, batch 1, one seed.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from peers import CLASSES, LABEL, SPEC, clip_of, view_of
from scipy.stats import spearmanr
from suite import SUITE, conv3d
from torch import nn

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from auditor.attack.registry import LEAST_SQUARES  # noqa: E402
from auditor.exposure import Exposed, expose  # noqa: E402
from auditor.federated import observe  # noqa: E402
from auditor.records import Budget, Reconstruction, View  # noqa: E402
from auditor.score import psnr  # noqa: E402

NETS = {
    "conv3d-flatten-gelu": SUITE["conv3d-flatten-gelu"],
    "conv3d-flatten-tanh": lambda: conv3d(nn.Tanh, flatten=True),
    "conv3d-pooled-gelu": lambda: conv3d(nn.GELU, flatten=False),
    "conv3d-pooled-silu-batchnorm": lambda: conv3d(nn.SiLU, flatten=False, norm=True),
    "vivit-fixed-positions": SUITE["vivit-fixed-positions"],
}
# Mean square deviation of a pixel of the shipped clips about mid grey.
_VARIANCE = 0.06


def only(view: View, names: tuple[str, ...], clip: torch.Tensor) -> View:
    """Return the view of an attacker to whom only these parameters' gradients are sent."""
    client = view.client.under(replace(view.client.protocol, sent=names))
    return replace(view, client=client, update=observe(client, clip[None], torch.tensor([LABEL])))


def case(net: str, clip_name: str, steps: int) -> list[dict[str, object]]:
    """Return exposure and attack for every layer, and for all of them."""
    clip = clip_of(clip_name, SPEC)
    view = view_of(NETS[net]().eval(), clip, SPEC)
    labels = view.client.targets((LABEL,))
    exposed = expose(view.client, clip[None], labels, view.target.layers, _VARIANCE, 600.0)
    if not isinstance(exposed, Exposed):
        sys.exit(exposed.reason)
    rows = []
    sets = [(layer.name, layer.parameters, exposed.layers.get(layer.index)) for layer in view.target.layers]
    for name, parameters, exposure in (*sets, ("all", tuple(view.update.gradients), exposed.all)):
        seen = only(view, tuple(parameters), clip)
        if exposure is None or LEAST_SQUARES.obstacle(seen) is not None:
            continue
        made = LEAST_SQUARES.invert(seen, Budget(seconds=600.0, steps=steps), 0)
        if isinstance(made, Reconstruction):
            reached = float(psnr(clip, made.clips[0]))
            rows.append({
                "net": net, "clip": clip_name, "layer": name, "exposed": exposure.psnr, "attacked": reached
            })  # fmt: skip
    return rows


def main() -> None:
    """Run the nets and print a table with rank correlations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS), metavar="NAME")
    parser.add_argument("--clips", nargs="+", default=["park_walker", "hand_box"], metavar="NAME")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    assert CLASSES > LABEL
    rows: list[dict[str, object]] = []
    table = sys.stderr if given.json else sys.stdout
    for net in given.nets:
        for clip in given.clips:
            made = case(net, clip, given.steps)
            rows += made
            said = ", ".join(f"{r['layer']} {r['exposed']:.1f}/{r['attacked']:.1f}" for r in made)
            print(f"{net}, {clip}: rank correlation {_ranks(made):.2f} ({said})", file=table, flush=True)
    print(f"all {len(rows)} sets: rank correlation {_ranks(rows):.2f}", file=table)
    if given.json:
        print(json.dumps({"sets": rows, "rank_correlation": _ranks(rows)}))


def _ranks(rows: list[dict[str, object]]) -> float:
    return float(spearmanr([r["exposed"] for r in rows], [r["attacked"] for r in rows]).statistic)


if __name__ == "__main__":
    main()
