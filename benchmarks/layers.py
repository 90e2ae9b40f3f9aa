"""Rank correlation of what is known of layers without an attack with the best attack on each layer alone.

Usage: python benchmarks/layers.py [--nets NAME ...] [--layers NAME ...] [--clips 1] [--steps N] [--restarts N]
           [--out FILE]
       python benchmarks/layers.py --table [--out FILE]

Determined (equations over unknowns), exposed (a linear attacker with a prior) and the size of the gradient put layers
in an order; the attacks of a scan that see one layer's gradient alone show what was recovered. Nets of the catalogue on
8x16x16, and r3d_18 on 8x32x32: fresh weights, shipped clips, batch 1, one seed. What is done is kept in FILE, one layer
a line, and is not done again; other --steps and --restarts of a search make other lines of the same layer.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from architecture_cases import blind, options_of, target_of  # noqa: E402
from architecture_nets import NETS  # noqa: E402
from deep_suite import DEEP_SUITE  # noqa: E402
from scipy.stats import kendalltau  # noqa: E402

from auditor.attack import PRESETS, Preset  # noqa: E402
from auditor.attack.registry import LEAST_SQUARES  # noqa: E402
from auditor.exposure import Exposed, expose  # noqa: E402
from auditor.pipeline.context import Context, Observed, observe_probes  # noqa: E402
from auditor.pipeline.documents.model import determined  # noqa: E402
from auditor.pipeline.layerwise.partial_update import EqualEffort, PartRecovered, Subject, recover  # noqa: E402
from auditor.pipeline.layerwise.rank_correlation import rank_correlation  # noqa: E402
from auditor.pipeline.layerwise.single_layers import gradient_size  # noqa: E402
from auditor.pipeline.progress import Silent  # noqa: E402
from auditor.pipeline.scan import pixel_variance  # noqa: E402
from auditor.pipeline.training import loss_of, trained  # noqa: E402
from auditor.probe import Galleries, probes_of_scenes  # noqa: E402
from auditor.records import Layer, work_of  # noqa: E402

Line = Mapping[str, Any]
# The nets on which the order of layers is held against what each alone gave.
NAMED = (
    "conv3d-flatten-relu", "conv3d-pooled-relu", "vivit-learned", "vivit-fixed", "frame-resnet", "frames-gru", "r3d_18",
)  # fmt: skip
# Of r3d_18, whose 41 layers take a minute each: the stem, the head, the first convolutions of stages, and the last.
FEW: Mapping[str, Sequence[str]] = {
    "r3d_18": ("stem.0", "fc", "layer2.0.conv1.0", "layer4.1.conv2.0", "layer1.0.conv1.0", "layer3.0.conv1.0"),
}
# Steps and restarts of a search in the catalogue: 300 steps, as in a scan, are too few for the
# order of layers. What the two deep nets get is what a scan of theirs holds, and proves little.
EFFORT: Mapping[str, tuple[int, int]] = {"": (1500, 1), "frame-resnet": (300, 1), "r3d_18": (60, 1)}
# Of a second search where the first ended as far below what is exposed: small learned positions leave the order of
# patches to chance, so that one start is not enough.
AGAIN, SHORT_DB = (6000, 4), 3.0
# Reference seconds of an attack at most: steps end it before.
_SECONDS = 600.0
PREDICTIONS = ("determined", "numbers", "exposed", "gradient")


def lines(
    name: str, wanted: Sequence[str], clips: int, steps: int, restarts: int, done: Sequence[Line]
) -> Iterator[dict[str, Any]]:
    """Attack the layers of a net that are wanted (all, if none) and are not in `done`, and yield a line for each."""
    options = options_of(name, "fresh")
    target = target_of(options)
    context = trained(target, options, loss_of(options.loss, target))
    probes = probes_of_scenes(target.input, max(2, clips))
    galleries = Galleries(target.input, probes)
    shares = {layer: d.share for d in determined(context) for layer in d.layers}
    effort = EqualEffort(preset=preset(restarts), seconds=_SECONDS, steps=steps)
    for probe in probes[:clips]:
        asked = [
            layer
            for layer in target.layers
            if set(layer.parameters) & set(context.protocol.sent) and (not wanted or layer.name in wanted)
        ]
        known = {key(line) for line in done}
        due = [la for la in asked if (name, probe.name, la.name, steps, restarts) not in known]
        due.sort(key=lambda la: wanted.index(la.name) if wanted else la.index)
        if not due:
            continue
        observed = observe_probes(context, (probe,))[0]
        told, modes = _exposed(name, context, observed, pixel_variance(galleries[probe.name]))
        for layer in due:
            begun = time.process_time()
            own = [n for n in context.protocol.sent if n in layer.parameters]
            subject = Subject(context=context, probe=probe, gallery=galleries[probe.name])
            made: list[Any] = []
            title = f"{layer.name} alone"
            work = work_of(lambda: made.append(recover(subject, own, effort, Silent(), title)))  # noqa: B023
            yield {
                "stage": "layers", "net": name, "weights": "fresh", "clip": probe.name, "layer": layer.name,
                "kind": layer.kind, "elements": layer.elements, "steps": steps, "restarts": restarts,
                "determined": shares.get(layer.name), "numbers": _numbers(layer, shares.get(layer.name), context),
                "modes": modes, "exposed": told.get(layer.name),
                "gradient": gradient_size(layer, observed.update.gradients), **_made(made[0]),
                "work": round(work, 1), "cpu": round(time.process_time() - begun, 1),
            }  # fmt: skip


def fell_short(held: Sequence[Line]) -> list[str]:
    """Return the layers whose search ended well below what they expose."""
    known = [line for line in held if line["exposed"] is not None and line["psnr"] is not None]
    return [line["layer"] for line in known if line["psnr"] <= line["exposed"] - SHORT_DB]


def strongest(held: Sequence[Line]) -> list[Line]:
    """Return of every layer the line of the search that gave most."""
    best: dict[str, Line] = {}
    for line in held:
        before = best.get(line["layer"])
        if before is None or (line["gain"] or 0.0) > (before["gain"] or 0.0):
            best[line["layer"]] = line
    return [*best.values()]


def preset(restarts: int) -> Preset:
    """Return the attacks of a fast scan, with so many restarts of least squares matching."""
    fast = blind(PRESETS["fast"])
    attacks = tuple(
        replace(LEAST_SQUARES, restarts=restarts) if a.name == LEAST_SQUARES.name else a for a in fast.attacks
    )
    return replace(fast, attacks=attacks)


def key(line: Line) -> tuple[str, str, str, int, int]:
    """Return what makes a line one of its own."""
    return line["net"], line["clip"], line["layer"], line["steps"], line["restarts"]


def _exposed(name: str, context: Context, observed: Observed, variance: float) -> tuple[dict[str, float], int]:
    """Return the dB that each layer exposes, which is printed, and the modes that were measured."""
    layers = {layer.index: layer.name for layer in context.target.layers}
    labels = context.client.targets(observed.labels)
    made = expose(context.client_of(observed.probe), observed.clips, labels, context.target.layers, variance, _SECONDS)
    if not isinstance(made, Exposed):
        sys.exit(made.reason)
    told = {layers[index]: round(one.psnr, 4) for index, one in made.layers.items()}
    print(f"{name}, {observed.probe.name}: {made.products} products, {made.seconds:.0f} s of work: {told}", flush=True)
    return told, made.modes


def _numbers(layer: Layer, share: float | None, context: Context) -> float | None:
    """Return the numbers of a layer's input that equations fix, for each pixel value."""
    if share is None or not layer.input_shape:
        return None
    return share * prod(layer.input_shape) / prod(context.input.clip_shape)


def _made(found: Any) -> dict[str, Any]:
    if not isinstance(found, PartRecovered):
        return {"psnr": None, "gain": None, "grade": None, "attack": None, "misfit": None, "why": found.reason}
    score = found.score
    return {
        "psnr": round(min(score.psnr, 200.0), 4), "gain": round(min(score.gain, 200.0), 4), "grade": found.grade.name,
        "attack": found.attack, "misfit": float(f"{found.misfit:.4g}"), "why": "",
    }  # fmt: skip


def correlations(held: Sequence[Line], kind: str = "spearman") -> dict[str, float | None]:
    """Return the rank correlation of each prediction with the dB over a guess, over the lines of one net."""
    gains = [max(0.0, line["gain"] or 0.0) for line in held]
    columns = {one: [line[one] for line in held] for one in PREDICTIONS}
    if kind == "spearman":
        return {one: rank_correlation(column, gains) for one, column in columns.items()}
    return {one: _kendall(column, gains) for one, column in columns.items()}


def _kendall(predicted: Sequence[float | None], gains: Sequence[float]) -> float | None:
    """Return Kendall's tau-b, which counts pairs that are not tied."""
    if rank_correlation(predicted, gains) is None:
        return None
    known = [(p, g) for p, g in zip(predicted, gains, strict=True) if p is not None]
    return float(kendalltau([p for p, _ in known], [g for _, g in known]).statistic)


def table(made: Sequence[Line]) -> Iterator[str]:
    """Yield one row for each net, clip and effort."""
    groups: dict[tuple[Any, ...], list[Line]] = {}
    for line in made:
        groups.setdefault((line["net"], line["clip"], line["steps"], line["restarts"]), []).append(line)
    for (net, clip, steps, restarts), held in groups.items():
        for kind in ("spearman", "kendall"):
            found = correlations(held, kind)
            told = ", ".join(f"{one} {'none' if rho is None else format(rho, '.2f')}" for one, rho in found.items())
            yield f"{net}, {clip}, {steps} steps, {restarts} restarts, {len(held)} layers, {kind}: {told}"


def main() -> None:
    """Attack what is not attacked yet, and print correlations."""
    every = [*(n for family in NETS.values() for n in family), *DEEP_SUITE]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", default=list(NAMED), choices=every, metavar="NAME")
    parser.add_argument("--layers", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--clips", type=int, default=1)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--restarts", type=int)
    parser.add_argument("--out", type=Path, default=Path("layers.jsonl"), metavar="FILE")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    done = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    for net in () if given.table else given.nets:
        wanted = given.layers or FEW.get(net, ())
        steps, restarts = EFFORT.get(net, EFFORT[""])
        effort = (given.steps or steps, given.restarts or restarts)
        for line in lines(net, wanted, given.clips, *effort, done):
            with given.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
            done.append(line)
            print(
                f"{net} {line['layer']}: exposed {line['exposed']}, {line['psnr']} dB by {line['attack']}, "
                f"misfit {line['misfit']}, {line['cpu']} s",
                flush=True,
            )
    print("\n".join(table([line for line in done if line["net"] in given.nets])))


if __name__ == "__main__":
    main()
