"""How far down nets for video give their values away, layer by layer, and why the recursion ends.

Usage: python benchmarks/depths.py [--nets NAME ...] [--clip NAME] [--clips 1] [--train 0] [--products 0] [--json]

Prints the lowest value that `residual-recursion` solved, its error and wrong masks against the truth, why it ended, and
where determinacy, which sees nothing but shapes, says that equations become too few. With --products the picture is
sought too, by so many products of the search: no result depends on a clock. --train takes that many SGD steps on the
shipped clips first; --clips puts several into one update. The truth serves for scores alone. One thread, seeded, label
known, BatchNorm in eval mode.
"""

import argparse
import json
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from deep_suite import with_statistics
from depth_nets import DEPTH_NETS
from peers import CLASSES, LABEL, view_of
from torch import Tensor, nn

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from auditor.attack.recursion.frame_order import descend_in_order  # noqa: E402
from auditor.attack.recursion.graph_descent import GraphDescent  # noqa: E402
from auditor.attack.recursion.residual_recursion import ResidualRecursion  # noqa: E402
from auditor.exposure import determinacy  # noqa: E402
from auditor.federated import observe  # noqa: E402
from auditor.probe import shipped_probes  # noqa: E402
from auditor.records import Budget, Clock, InputSpec, Reconstruction, View  # noqa: E402
from auditor.score import psnr  # noqa: E402


def trained(net: nn.Module, clips: Tensor, steps: int) -> nn.Module:
    """Return the net after SGD steps on the clips, two at a time, whose classes are their places; BatchNorm follows."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.momentum = 0.1
    net.train()
    sgd = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        mine = torch.randperm(len(clips), generator=generator)[:2]
        sgd.zero_grad()
        nn.functional.cross_entropy(net(clips[mine].transpose(1, 2)), mine).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        sgd.step()
    return net.eval()


def view_of_clips(net: nn.Module, clips: Tensor, spec: InputSpec) -> View:
    """Return what an attacker sees of a client with these clips, whose labels are known."""
    view = view_of(net, clips[0], spec)
    if len(clips) == 1:
        return view
    labels = tuple((LABEL + k) % CLASSES for k in range(len(clips)))
    protocol = replace(view.client.protocol, batch=len(clips))
    client = view.client.under(protocol)
    return replace(
        view,
        client=client,
        update=observe(client, clips, torch.tensor(labels)),
        knowledge=replace(view.knowledge, batch=len(clips), labels=labels),
    )


def true_values(found: GraphDescent, clips: Tensor) -> dict[int, Tensor]:
    """Return the graph's values for the true clips."""
    seen: dict[int, Tensor] = {}
    with torch.no_grad():
        for _, values in found.graph.forward(clips, list(found.open), {}):
            seen = dict(values)
    return seen


def scored(found: GraphDescent, clips: Tensor) -> dict[str, Any]:
    """Return error and wrong masks of what was found, frames matched to the true ones where their order is lost."""
    seen = true_values(found, clips)
    order: list[int] | None = None
    axis = found.loose[0] if len(found.loose) == 1 else None
    if axis is not None and found.open:
        top = found.open[max(found.open)].movedim(axis, 0).flatten(1).double()
        true = (seen[max(found.open)] > 0.0).movedim(axis, 0).flatten(1).double()
        order = torch.cdist(top, true).argmin(1).tolist()

    def matched(n: int) -> Tensor:
        if axis is None or order is None or seen[n].shape[axis] != len(order):
            return seen[n]
        return seen[n].index_select(axis, torch.tensor(order))

    lowest = min(found.values, default=None)
    wrong = {n: int((o != (matched(n) > 0.0)).sum()) for n, o in found.open.items()}
    return {
        "error": None if lowest is None
        else float((found.values[lowest] - matched(lowest)).norm() / matched(lowest).norm()),
        "wrong_above": sum(w for n, w in wrong.items() if n != lowest),
        "masks_above": sum(o.numel() for n, o in found.open.items() if n != lowest),
        "wrong_lowest": wrong.get(lowest) if lowest is not None else None,
        "shape": None if lowest is None else list(seen[lowest].shape),
        "order": order,
    }  # fmt: skip


def picture(view: View, clips: Tensor, products: int) -> dict[str, Any]:
    """Return the PSNR of every clip that the attack finds, and of the same played backwards."""
    begun = _cpu()
    made = ResidualRecursion().invert(view, Budget(seconds=1e5, steps=products), 0)
    if not isinstance(made, Reconstruction):
        return {"psnr": None}
    pairs = list(zip(made.clips, clips, strict=True))
    return {
        "psnr": [float(psnr(t, m)) for m, t in pairs],
        "backwards": [float(psnr(t, m.flip(0))) for m, t in pairs],
        "grey": [float(psnr(t, torch.full_like(t, 0.5))) for _, t in pairs],
        "picture_seconds": made.seconds,
        "picture_cpu": _cpu() - begun,
        "products": made.steps,
        "misfit": made.objective,
    }


def case(name: str, clip: str, count: int, steps: int, products: int) -> dict[str, Any]:
    """Return how far the recursion comes on one net."""
    make, frames, height = DEPTH_NETS[name]
    spec = InputSpec(frames=frames, channels=3, height=height, width=height, layout="NCTHW")
    probes = {p.name: p.clip for p in shipped_probes(spec)}
    every = torch.stack(list(probes.values()))
    torch.manual_seed(0)
    net = with_statistics(make(), spec)
    if steps:
        net = trained(net, every, steps)
    names = [clip, *(n for n in probes if n != clip)][:count]
    clips = torch.stack([probes[n] for n in names])
    view = view_of_clips(net, clips, spec)
    with torch.no_grad():
        loss = float(nn.functional.cross_entropy(net(clips.transpose(1, 2)), torch.tensor(view.knowledge.labels)))
    begun, cpu = time.monotonic(), _cpu()
    found = descend_in_order(view, Clock(1e5))
    row: dict[str, Any] = {
        "net": name, "size": f"{frames}x{height}x{height}", "clips": count, "trained": steps, "loss": loss,
        "seconds": time.monotonic() - begun, "cpu": _cpu() - cpu, "predicted": predicted(view),
    }  # fmt: skip
    if isinstance(found, str):
        return row | {"ended": found}
    solved = [n for n in found.residuals if not n.startswith("masks")]
    row |= {"ended": found.ended, "flips": found.flips, "lowest": solved[-1] if solved else None}
    row |= {"loose": list(found.loose), "layers": len(solved), **scored(found, clips)}
    return row | (picture(view, clips, products) if products else {})


def predicted(view: View) -> str:
    """Return the first layers, from the head down, whose equations are too few by shapes alone."""
    shapes = {n: tuple(p.shape) for n, p in view.target.parameters.items()}
    for told in reversed(determinacy(view.target.layers, shapes, view.update.batch)[:-1]):
        if told.rank < told.unknowns:
            return f"{' and '.join(told.layers)}: {told.rank} of {told.unknowns}"
    return "nowhere"


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Run the nets and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", default=list(DEPTH_NETS), choices=list(DEPTH_NETS), metavar="NAME")
    parser.add_argument("--clip", default="park_walker")
    parser.add_argument("--clips", type=int, default=1)
    parser.add_argument("--train", type=int, default=0)
    parser.add_argument("--products", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.nets:
        row = case(name, given.clip, given.clips, given.train, given.products)
        print(json.dumps(row) if given.json else "\n".join(f"{k}: {v}" for k, v in row.items()) + "\n", flush=True)


if __name__ == "__main__":
    main()
