"""Attacks on heads behind EfficientNet-Lite0: `python benchmarks/extractors.py [features] [frames] [inversion]`.

The seven shipped clips, frames of 64 x 64, fresh heads, one core; prints the tables of the README.
"""

import dataclasses
import sys
import time
from itertools import permutations
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from extractor_nets import HEADS, head_of, two_part, view_of_parts  # noqa: E402

from auditor.attack.closed_form.mean_input import recover_mean_input  # noqa: E402
from auditor.attack.features.frame_span import frame_features, frame_spans  # noqa: E402
from auditor.attack.features.head_features import recover_head_features, shared_features  # noqa: E402
from auditor.attack.registry import BY_NAME  # noqa: E402
from auditor.efficientnet import FEATURES, EfficientNetLite0  # noqa: E402
from auditor.probe import shipped_probes  # noqa: E402
from auditor.probe.fit import fit  # noqa: E402
from auditor.probe.gallery import gallery  # noqa: E402
from auditor.probe.real import manifest, shipped_frames  # noqa: E402
from auditor.records import Budget, InputSpec, Reconstruction  # noqa: E402
from auditor.score.intervals import clopper_pearson  # noqa: E402
from auditor.score.retrieval import rank  # noqa: E402

SPEC = InputSpec(frames=4, channels=3, height=64, width=64, layout="NCHW")
SOLVING, INVERTING, STEPS = 20.0, 120.0, 200


def main() -> None:
    """Print the tables that are asked for; all without arguments."""
    torch.set_num_threads(1)
    wanted = sys.argv[1:] or ["features", "frames", "inversion"]
    extractor = EfficientNetLite0()
    for name in wanted:
        {"features": features, "frames": frames, "inversion": inversion}[name](extractor)


def features(extractor: torch.nn.Module) -> None:
    """Solve for the features of every frame, or for their mean, and compare with those of the extractor."""
    print("| head | clips solved | error of features, largest of the solved | order | seconds a clip | otherwise |")
    print("|---|---|---|---|---|---|")
    for head in HEADS:
        target = two_part(extractor, head_of(head, FEATURES), SPEC)
        errors, orders, why, started = [], set(), set(), time.time()
        probes = shipped_probes(SPEC)
        for probe in probes:
            view = view_of_parts(target, probe.clip[None], [3])
            with torch.no_grad():
                true = target.model.features(probe.clip[None]).double()
            span = shared_features(view)
            if isinstance(span, str):
                first = next(layer for layer in view.target.layers if layer.name.startswith("head"))
                mean = recover_mean_input(view, first) if first.kind == "linear" else None
                exact = f", their mean to {off(mean.value, true.mean(0)):.0e}" if mean else ""
                why.add(f"rank {span.split('tells ')[-1].split(' ')[0]}{exact}")
                continue
            found = recover_head_features(view, span, [3], SOLVING)
            if found.residual > 1e-4:
                why.add("a minimum that is not the update's")
                continue
            orders.add("told" if found.ordered else "not told")
            ways = [range(SPEC.frames)] if found.ordered else permutations(range(SPEC.frames))
            errors.append(min(off(found.value, true[list(way)]) for way in ways))
        worst = f"{max(errors):.0e}" if errors else "-"
        seconds = (time.time() - started) / len(probes)
        print(
            f"| {head} | {len(errors)} of {len(probes)} | {worst} | {', '.join(sorted(orders)) or '-'} "
            f"| {seconds:.0f} | {'; '.join(sorted(why)) or '-'} |",
            flush=True,
        )


def off(found: torch.Tensor, true: torch.Tensor) -> float:
    """Return the relative distance."""
    return float((found - true).norm() / true.norm())


def frames(extractor: torch.nn.Module) -> None:
    """Ask of frames of the first clip and of other frames of its scene whether they lie in the span."""
    print("| head | B | rank | largest true | smallest other | others below the largest true (95%) |")
    print("|---|---|---|---|---|---|")
    whole = dataclasses.replace(SPEC, frames=24)
    pool = [fit(shipped_frames(entry), whole, 0, 24)[0] for entry in manifest()]
    for head in HEADS:
        target = two_part(extractor, head_of(head, FEATURES), SPEC)
        for batch in (1, 2, 4, 8):
            true, other, span = [], [], None
            for first in range(3):
                order = [(first + i) % len(pool) for i in range(len(pool))]
                windows = [pool[i][8:12] for i in order] + [pool[i][16:20] for i in order[1:]]
                view = view_of_parts(target, torch.stack(windows[:batch]), list(range(batch)))
                span = next(frame_spans(view), None)
                if span is None:
                    break
                asked = frame_features(view, span.weight, torch.cat([windows[0], pool[first][[0, 3, 6, 18, 21]]]))
                distances = span.distance(asked).tolist()
                true, other = true + distances[:4], other + distances[4:]
            if span is None:
                print(f"| {head} | {batch} | no span | - | - | - |", flush=True)
                continue
            called = sum(d <= max(true) for d in other)
            low, high = (100 * share for share in clopper_pearson(called, len(other)))
            print(
                f"| {head} | {batch} | {span.rank} of {span.rows} | {max(true):.1e} | {min(other):.1e} "
                f"| {called} of {len(other)} ({low:.0f} to {high:.0f}%) |",
                flush=True,
            )


def inversion(extractor: torch.nn.Module) -> None:
    """Invert towards exact features of every frame (GRU head), and tell what stands in the way of retrieval."""
    print(
        "| clip | attack | ||phi(x) - f||^2 / ||f||^2 | nearest candidate's | rank of 85 | PSNR | colour's PSNR | s |"
    )
    print("|---|---|---|---|---|---|---|---|")
    target = two_part(extractor, head_of("gru", FEATURES), SPEC)
    candidates = gallery(SPEC).clips
    with torch.no_grad():
        others = torch.stack([target.model.features(clip[None]) for clip in candidates])
    for probe in shipped_probes(SPEC):
        view = view_of_parts(target, probe.clip[None], [3], reference=probe.clip[:1])
        with torch.no_grad():
            true = target.model.features(probe.clip[None])
        nearest = float(((others - true).square().sum((1, 2)) / true.square().sum()).min())
        colour = psnr(probe.clip.mean((0, 2, 3), keepdim=True), probe.clip)
        for name in ("feature-inversion", "feature-inversion-r1"):
            started = time.time()
            made = BY_NAME[name].invert(view, Budget(seconds=INVERTING, steps=STEPS), 0)
            if not isinstance(made, Reconstruction):
                print(f"| {probe.name} | {name} | {made.reason} |", flush=True)
                continue
            clip = made.clips[0]
            at = rank(probe.clip, clip, candidates)
            print(
                f"| {probe.name} | {name} | {made.objective:.1e} | {nearest:.1e} | {at} "
                f"| {psnr(clip, probe.clip):.1f} | {colour:.1f} | {time.time() - started:.0f} |",
                flush=True,
            )


def psnr(found: torch.Tensor, true: torch.Tensor) -> float:
    """Return dB of the whole clip."""
    return float(-10.0 * torch.log10((found - true).square().mean()))


if __name__ == "__main__":
    main()
