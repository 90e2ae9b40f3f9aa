"""Whether pictures that single layers of a token net give are right but for the order of their patches.

Usage: python benchmarks/patch_orders.py [--nets vivit-learned vivit-fixed] [--layers NAME ...] [--steps 1500]

A layer that sums over tokens tells them apart only by their positions: where these are small beside the patches, as
fresh learned ones are, the clip with its patches in another order has nearly the same gradient. Prints how far that
one is from what was sent, and how near the picture that a search found comes to the clip once its patches lie in the
best order.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from architecture_cases import options_of, target_of  # noqa: E402
from architecture_nets import CLIP  # noqa: E402

from auditor.attack import residual  # noqa: E402
from auditor.attack.registry import LEAST_SQUARES  # noqa: E402
from auditor.pipeline.context import observe_probes, view_of  # noqa: E402
from auditor.pipeline.layerwise.partial_update import only  # noqa: E402
from auditor.pipeline.training import loss_of, trained  # noqa: E402
from auditor.probe import probes_of_scenes  # noqa: E402
from auditor.records import Budget, Reconstruction  # noqa: E402
from auditor.score import psnr  # noqa: E402

# Of a net with learned positions the layers whose search fell short, and of one with fixed positions one of them.
ORDERED = {
    "vivit-learned": ("embed", "blocks.0.self_attn", "blocks.0.self_attn.out_proj"),
    "vivit-fixed": ("embed",),
}
STEPS = 1500
# Frames, rows and columns of a patch of these nets.
PATCH = (2, 8, 8)
_GRID = (CLIP[1] // PATCH[0], CLIP[2] // PATCH[1], CLIP[3] // PATCH[2])


def patches(clip: Tensor) -> Tensor:
    """Return the patches (frame, channel, height, width) of a clip (frame, channel, height, width), one a row."""
    cut = clip.unflatten(0, (_GRID[0], PATCH[0])).unflatten(-1, (_GRID[2], PATCH[2]))
    cut = cut.unflatten(-3, (_GRID[1], PATCH[1]))
    return cut.permute(0, 3, 5, 1, 2, 4, 6).flatten(0, 2)


def joined(rows: Tensor) -> Tensor:
    """Return the clip that patches make."""
    return rows.unflatten(0, _GRID).permute(0, 3, 4, 1, 5, 2, 6).reshape(CLIP[1], CLIP[0], *CLIP[2:])


def best_order(found: Tensor, clip: Tensor) -> tuple[Tensor, int]:
    """Return a picture with its patches where each is nearest to the clip's, and how many had to move."""
    rows, true = patches(found), patches(clip)
    _, places = linear_sum_assignment((rows[:, None] - true[None]).square().flatten(2).mean(2).numpy())
    where = torch.as_tensor(places)
    ordered = torch.empty_like(rows)
    ordered[where] = rows
    return joined(ordered), int((where != torch.arange(len(where))).sum())


def orders(name: str, wanted: Sequence[str], steps: int = STEPS) -> Iterator[dict[str, Any]]:
    """Search for the clip by one layer's gradient alone, and yield what the order of its patches has to do with it."""
    options = options_of(name, "fresh")
    target = target_of(options)
    context = trained(target, options, loss_of(options.loss, target))
    (probe,) = probes_of_scenes(target.input, 1)
    shuffle = torch.randperm(prod(_GRID), generator=torch.Generator().manual_seed(0))
    other = joined(patches(probe.clip)[shuffle])
    for layer in (one for one in target.layers if one.name in wanted):
        alone = only(context, [n for n in context.protocol.sent if n in layer.parameters])
        observed = observe_probes(alone, (probe,))[0]
        view = view_of(alone, observed)
        made = LEAST_SQUARES.invert(view, Budget(seconds=600.0, steps=steps), 0)
        assert isinstance(made, Reconstruction)
        ordered, moved = best_order(made.clips[0], probe.clip)
        yield {
            "stage": "orders", "net": name, "clip": probe.name, "layer": layer.name, "steps": steps,
            "psnr": round(float(psnr(probe.clip, made.clips[0])), 2), "moved": moved, "of": prod(_GRID),
            "ordered": round(float(psnr(probe.clip, ordered)), 2),
            "misfit": float(f"{residual(view, made.clips, made.labels):.3g}"),
            "shuffled": float(f"{residual(view, other[None], made.labels):.3g}"),
            "shuffled_psnr": round(float(psnr(probe.clip, other)), 2),
        }  # fmt: skip


def main() -> None:
    """Print a line for each layer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", default=list(ORDERED), choices=list(ORDERED), metavar="NAME")
    parser.add_argument("--layers", nargs="+", metavar="NAME")
    parser.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.nets:
        for line in orders(name, given.layers or ORDERED[name], given.steps):
            print(line, flush=True)


if __name__ == "__main__":
    main()
