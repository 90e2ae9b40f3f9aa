"""What super-resolution adds to real reconstructions, and to nulls: `python benchmarks/enhancing.py` prints the tables.

Usage: python benchmarks/enhancing.py [--save FILE] [--load FILE] [--most N]

Reconstructions at 8x32x32, batch 1, of the seven shipped clips: least-squares matching and layer recursion on nets of
`suite.py` with several budgets, and the closed form of `nets.py`'s ViViT from gradients with noise. The null of a
reconstruction is the one of the next clip from the same net and attack, held against this clip. Truth is the clip
before it was resized to 32x32, at the enlarged size. Retrieval is among the audit's own gallery of 84 candidates.
"""

import argparse
import statistics
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import torch
from nets import vivit
from peers import LEAST_SQUARES, RECURSION, SPEC, view_of
from suite import SUITE
from torch.nn import functional

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from auditor.attack.closed_form.patch_embedding import PatchEmbeddingInversion  # noqa: E402
from auditor.enhance import Bicubic, DatLight, Enhancer, Fusion  # noqa: E402
from auditor.probe import Galleries, shipped_probes  # noqa: E402
from auditor.records import Budget, Clip, Reconstruction, View  # noqa: E402
from auditor.score import psnr, rank, recall_interval  # noqa: E402

# Net, attack (None: closed form), and seconds or the noise of the gradient relative to its root mean square.
JOBS = (
    ("conv3d-flatten-gelu", LEAST_SQUARES, 4.0),
    ("conv3d-flatten-gelu", LEAST_SQUARES, 12.0),
    ("conv3d-flatten-relu", LEAST_SQUARES, 4.0),
    ("conv3d-flatten-relu", RECURSION, 20.0),
    ("conv3d-flatten-gelu", RECURSION, 20.0),
    ("vivit", None, 1e-5),
    ("vivit", None, 3e-5),
    ("vivit", None, 1e-4),
    ("vivit", None, 3e-4),
    ("slowfast-like", LEAST_SQUARES, 8.0),
    ("conv3d-pooled", RECURSION, 30.0),
    ("vivit-fixed-positions", LEAST_SQUARES, 10.0),
)
ENHANCERS: tuple[tuple[str, Enhancer], ...] = (
    ("DAT-light x2", DatLight(2)),
    ("multi-frame fusion x2", Fusion(2)),
    ("DAT-light x2, network alone", DatLight(2, register_first=False)),
    ("DAT-light x4", DatLight(4)),
)
BINS = ((0.0, 20.0), (20.0, 25.0), (25.0, 28.0), (28.0, 32.0), (32.0, 36.0), (36.0, float("inf")))


def reconstructions() -> list[tuple[str, int, Clip]]:
    """Attack every clip in every way; return (net and attack, index of the clip, reconstruction)."""
    probes, found = shipped_probes(SPEC), []
    for name, attack, amount in JOBS:
        net = (vivit() if name == "vivit" else SUITE[name]()).eval()
        for index, probe in enumerate(probes):
            view = view_of(net, probe.clip, SPEC)
            if attack is None:
                made = PatchEmbeddingInversion().invert(_noisy(view, amount, index), Budget(seconds=60, steps=1), 0)
            elif attack.obstacle(view) is None:
                made = attack.invert(view, Budget(seconds=amount, steps=10**6), 0)
            else:
                continue
            if isinstance(made, Reconstruction):
                found.append((f"{name}, {attack.name if attack else 'closed form'}, {amount:g}", index, made.clips[0]))
    return found


def _noisy(view: View, share: float, seed: int) -> View:
    random = torch.Generator().manual_seed(seed)
    noisy = {
        name: g + share * g.square().mean().sqrt() * torch.randn(g.shape, generator=random)
        for name, g in view.update.gradients.items()
    }
    return replace(view, update=replace(view.update, gradients=noisy))


def main() -> None:
    """Print gains over bicubic by the reconstruction's own PSNR, and those of the nulls with their retrieval."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", type=Path, help="keep the reconstructions")
    parser.add_argument("--load", type=Path, help="use those kept before")
    parser.add_argument("--most", type=int, help="no more reconstructions a bin than this")
    given = parser.parse_args()
    torch.set_num_threads(1)
    made = torch.load(given.load, weights_only=True) if given.load else reconstructions()
    if given.save:
        torch.save(made, given.save)
    probes = shipped_probes(SPEC)
    galleries = Galleries(SPEC, probes)
    by_case = {(how, index): clip for how, index, clip in made}
    binned: dict[tuple[float, float], list[tuple[int, Clip, Clip]]] = defaultdict(list)
    for how, index, clip in made:
        quality = float(psnr(probes[index].clip, clip))
        where = next(b for b in BINS if b[0] <= quality < b[1])
        null = by_case.get((how, (index + 1) % len(probes)))
        if null is not None:
            binned[where].append((index, clip, null))
    cases = [(where, *case) for where, found in binned.items() for case in _spread(found, given.most)]
    for title, enhancer in ENHANCERS:
        rows, hits, candidates = defaultdict(list), 0, 0
        for where, index, clip, null in cases:
            truth, plain = _truth(probes[index].native, enhancer.scale), Bicubic(enhancer.scale)
            gallery = galleries[probes[index].name]
            candidates = len(gallery) + 1
            painted = enhancer(null).clip
            gains = [
                float(psnr(truth, larger) - psnr(truth, plain(small).clip))
                for larger, small in ((enhancer(clip).clip, clip), (painted, null))
            ]
            shrunk = functional.interpolate(painted, probes[index].clip.shape[-2:], mode="area")
            hits += rank(probes[index].clip, shrunk, gallery) == 1
            rows[where].append(gains)
        print(f"\n{title}\n\n| reconstruction | runs | over bicubic: median (least, most) | at least 1 dB | null |")
        print("|---|---|---|---|---|")
        for where in BINS:
            if rows[where]:
                own, nulls = ([g[i] for g in rows[where]] for i in (0, 1))
                name = f"{where[0]:.0f} to {where[1]:.0f} dB" if where[1] < 1e9 else f"above {where[0]:.0f} dB"
                print(
                    f"| {name} | {len(own)} | {statistics.median(own):+.1f} ({min(own):+.1f}, {max(own):+.1f}) | "
                    f"{sum(g >= 1.0 for g in own)} of {len(own)} | {statistics.median(nulls):+.1f} "
                    f"({min(nulls):+.1f}, {max(nulls):+.1f}) |",
                    flush=True,
                )
        found = recall_interval(hits, len(cases), candidates)
        print(
            f"\nNulls found in the gallery: {hits} of {len(cases)} ({100 * found.low:.0f} to {100 * found.high:.0f}%, "
            f"chance {100 * found.chance:.1f}%)",
            flush=True,
        )


def _spread(found: list[tuple[int, Clip, Clip]], most: int | None) -> list[tuple[int, Clip, Clip]]:
    """Return at most so many, evenly spread over nets and clips."""
    if most is None or len(found) <= most:
        return found
    return [found[round(i * (len(found) - 1) / (most - 1))] for i in range(most)]


def _truth(native: Clip, scale: int) -> Clip:
    side = (SPEC.height * scale, SPEC.width * scale)
    return functional.interpolate(native, side, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)


if __name__ == "__main__":
    main()
