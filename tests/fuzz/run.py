"""Loads mutants of small models until --count is reached, and prints what became of them.

python tests/fuzz/run.py --count 10000 --seed 1 --save /tmp/found
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "model")]

from harness import GIB, Outcome, gist, run  # noqa: E402
from mutate import mutant  # noqa: E402
from seeds import NETS, seeds  # noqa: E402


def main() -> int:
    """Return 0 if every load ended in success or one line, 1 otherwise."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=10_000)
    options.add_argument("--first", type=int, default=0, help="number of the first mutant")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--seconds", type=float, default=20.0, help="processor time of one load")
    options.add_argument("--memory", type=float, default=2.0, help="GiB of one load")
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--seeds", type=Path, help="folder where exported seeds are kept")
    options.add_argument("--nets", type=int, help="how many of the small nets to start from (default: all)")
    options.add_argument("--save", type=Path, help="folder for the files that show a defect")
    chosen = options.parse_args()
    import torch

    import auditor.model  # noqa: F401  # imported once, before the processes fork

    torch.set_num_threads(1)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.seeds or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        made = seeds(folder, NETS[: chosen.nets])

        def content(number: int) -> bytes:
            return mutant(made, chosen.seed, number)[1]

        numbers = list(range(chosen.first, chosen.first + chosen.count))
        outcomes: list[Outcome] = []
        for outcome in run(
            content, numbers, processes=chosen.processes, memory=int(chosen.memory * GIB), seconds=chosen.seconds
        ):
            outcomes.append(outcome)
            if outcome.defect:
                what, data = mutant(made, chosen.seed, outcome.number)
                print(f"DEFECT {outcome.number} ({what}): {outcome.kind}: {outcome.text[:400]}", flush=True)
                if chosen.save:
                    chosen.save.mkdir(parents=True, exist_ok=True)
                    (chosen.save / f"{chosen.seed}-{outcome.number}-{outcome.kind}.onnx").write_bytes(data)
    for text, count in Counter(map(gist, outcomes)).most_common(60):
        print(f"{count:6d}  {text}")
    slowest = sorted(outcomes, key=lambda o: -o.seconds)[:5]
    widest = sorted(outcomes, key=lambda o: -o.memory)[:5]
    print("slowest:", ", ".join(f"{o.number} {o.seconds:.1f} s" for o in slowest))
    print("most memory:", ", ".join(f"{o.number} {o.memory / 2**20:.0f} MiB" for o in widest))
    counts = Counter(o.kind for o in outcomes)
    print(f"{len(outcomes)} files in {time.monotonic() - begun:.0f} s")
    print(json.dumps(counts))
    return int(any(o.defect for o in outcomes))


if __name__ == "__main__":
    sys.exit(main())
