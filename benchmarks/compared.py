"""Does `fl-audit compare` order pairs rightly that differ in one leaky change? Five planted pairs, with resume.

    python benchmarks/compared.py [--out DIR] [--seeds 1] [--preset fast] [--steps N] [PAIR ...]

Every pair is a comparison of its own, kept as DIR/PAIR.json as soon as it is done; the same command goes on from there.
The last lines are a Markdown table: leakage with intervals, and whether the leakier net comes first without overlap.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import torch

import auditor
from auditor.attack import PRESETS
from auditor.report.comparison.cells import interval
from auditor.report.plain import to_json

HERE = Path(__file__).parent
# Name, factory, fixed arguments, the argument that is varied, its leaky value and the other.
PAIRS = {
    "pooling": ("convolutional", {}, "pool", "flatten", "average"),
    "stride": ("one_layer", {"width": 44}, "stride", 1, 4),
    "width": ("one_layer", {"stride": 1}, "width", 64, 4),
    "positions": ("tokens", {}, "positions", "learned", "none"),
    "dense": ("head", {}, "hidden", 0, 1),
}


def compared(name: str, seeds: int, preset: str) -> dict:
    """Return comparison.json of a pair; the net that should leak less is the baseline."""
    factory, fixed, argument, leaky, other = PAIRS[name]
    torch.set_num_threads(1)
    made = auditor.compare(
        f"{HERE / 'compared_nets.py'}:{factory}",
        arg=fixed,
        vary={argument: [other, leaky]},
        seeds=seeds,
        preset=preset,
        device="cpu",
    )
    return dict(made.results)


def row(name: str, results: dict) -> str:
    """Return a line of the table."""
    _, _, argument, leaky, other = PAIRS[name]
    found = {c["name"]: c for c in results["candidates"]}
    more, less = (found[f"{argument}={value}"] for value in (leaky, other))
    order = "right" if _above(more, less) else "WRONG" if _above(less, more) else "tie"
    cells = (name, more["name"], interval(more["leakage"]), less["name"], interval(less["leakage"]), order)
    return f"| {' | '.join(cells)} |"


def _above(a: dict, b: dict) -> bool:
    """Tell whether the whole interval of one lies above that of the other."""
    (low, high) = (a["leakage"]["low"], b["leakage"]["high"])
    return low is not None and high is not None and low > high


def main() -> None:
    """Run what is not kept yet, and print the table of all that is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", nargs="*", help=", ".join(PAIRS))
    parser.add_argument("--out", type=Path, default=Path("compared"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--steps", type=int, help="most steps of a search, in place of the preset's")
    given = parser.parse_args()
    if given.steps:
        PRESETS[given.preset] = dataclasses.replace(PRESETS[given.preset], steps=given.steps)
    given.out.mkdir(parents=True, exist_ok=True)
    lines = []
    for name in given.pairs or PAIRS:
        kept = given.out / f"{name}.json"
        if not kept.exists():
            kept.write_text(to_json(compared(name, given.seeds, given.preset)), encoding="ascii")
        lines.append(row(name, json.loads(kept.read_text())))
        print(lines[-1], flush=True)
    print("\n| pair | leaky | leakage | other | leakage | order |\n|---|---|---|---|---|---|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
