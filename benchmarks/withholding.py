"""Whether the layers that an audit says to keep back end pictures in another audit, which follows the advice.

Usage: python benchmarks/withholding.py [--out DIR] [--nets NAME ...] [--work SECONDS] [--steps N]
           [--layers N] [--table]

For each net a first audit attacks its layers and looks for a set to keep back. A second audit follows with
`--trainable` of what is left: another seed, one clip more, and the same work, which fewer attacks now share. Both have
the attacks of the preset `fast` that hold no frames of the scene. Work is counted, so the clock of the machine decides
nothing. The first audit attacks the layers that promise most alone, as many as --layers says; those that it does not
attack alone may be in a set all the same. What is done is kept in DIR/withholding.jsonl, one line a net, and is not
done again, and finished attacks of a net that was interrupted are kept in DIR/parts; --table prints what came out.
"""

import argparse
import datetime
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

import torch  # noqa: E402
from architecture_nets import CLIP, NETS  # noqa: E402
from compared_nets import tokens  # noqa: E402
from deep_suite import with_statistics  # noqa: E402
from torch import nn  # noqa: E402
from torchvision.models.video import r3d_18  # noqa: E402

from auditor.attack import PRESETS, Preset  # noqa: E402
from auditor.content_key import program_key  # noqa: E402
from auditor.journal import journaling  # noqa: E402
from auditor.options import ScanOptions  # noqa: E402
from auditor.pipeline.progress import Silent  # noqa: E402
from auditor.pipeline.scan import choose_device, load_target, scan  # noqa: E402
from auditor.pipeline.time_plan import Prepared  # noqa: E402
from auditor.pipeline.units import uses_reference  # noqa: E402
from auditor.records import InputSpec  # noqa: E402

# Of the catalogue of architectures, unless named below.
_DEEP = (3, 8, 32, 32)
_OTHERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int, int]]] = {
    "tokens": (lambda: tokens("learned"), CLIP),
    "r3d_18": (lambda: r3d_18(num_classes=10), _DEEP),
}
CHOSEN = (
    "residual-3d", "vivit-learned", "tokens", "vivit-fixed", "conv3d-pooled-relu", "conv3d-pooled-wide",
)  # fmt: skip
# Reference seconds of an audit, most steps of a search, and clips of the first audit and of the one that follows.
WORK, STEPS, CLIPS, LAYERS = 40.0, 300, (2, 3), 3
_BASE_SEED, _OTHER_SEED = 0, 1
_PICTURES = ("RECOGNISABLE", "EXACT")


def net(name: str) -> nn.Module:
    """Return a net in eval mode with fresh weights, and BatchNorm that holds the statistics of shipped clips."""
    torch.manual_seed(0)
    catalogue = {n: make for family in NETS.values() for n, make in family.items()}
    make, shape = _OTHERS[name] if name in _OTHERS else (catalogue[name], CLIP)
    made = make().eval()
    made.input_shape, made.layout = shape, "NCTHW"
    spec = InputSpec(frames=shape[1], channels=shape[0], height=shape[2], width=shape[3], layout="NCTHW")
    return with_statistics(made, spec)


class _Shown(Silent):
    """Says on stderr which attack runs, and the processor's seconds so far."""

    def stage(self, title: str) -> None:
        """Name a part of an audit."""
        print(f"{time.process_time():7.1f} s {title}", file=sys.stderr, flush=True)

    @contextmanager
    def unit(self, title: str, seconds: float) -> Iterator[Callable[[float], None]]:
        """Name an attack."""
        self.stage(f"  {title} ({seconds:.1f} s)")
        with super().unit(title, seconds) as progress:
            yield progress


def audit(name: str, clips: int, work: float, steps: int, **options: Any) -> Mapping[str, Any]:
    """Return the results of one audit."""
    given = ScanOptions(
        model=f"{Path(__file__)}:net", arg=(("name", name),), device="cpu", what_if=False, malicious_server=False,
        **options,
    )  # fmt: skip
    prepared = Prepared(target=load_target(given, choose_device("cpu")), preset=_preset(clips, steps), seconds=work)
    return scan(given, _Shown(), prepared).results


def _preset(clips: int, steps: int) -> Preset:
    fast = PRESETS["fast"]
    attacks = tuple(a for a in fast.attacks if not uses_reference(a))
    return replace(fast, probes=clips, steps=steps, attacks=attacks)


def case(name: str, work: float, steps: int, layers: int) -> dict[str, Any]:
    """Find what to keep back of one net, and follow it."""
    begun = time.process_time()
    first = audit(name, CLIPS[0], work, steps, seed=_BASE_SEED, layers=layers)
    held = (first["layer_attacks"] or {}).get("withholding")
    line = {
        "net": name, "date": datetime.date.today().isoformat(), "work": work, "steps": steps, "first": _told(first),
        "withholding": held, "first_seconds": round(time.process_time() - begun, 1), "followed": None,
    }  # fmt: skip
    if held is not None and held["layers"]:
        followed = audit(name, CLIPS[1], work, steps, seed=_OTHER_SEED, layers=0, trainable=tuple(held["trainable"]))
        line["followed"] = _told(followed)
    return {**line, "seconds": round(time.process_time() - begun, 1)}


def _told(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an audit found of real clips: its best picture, and how many of them are recognisable at all."""
    runs = [
        (result["score"]["psnr"], result["grade"], finding["attack"], result["probe"])
        for finding in results["findings"]
        for result in finding["results"]
        if result["score"] is not None and result["kind"] != "canary"
    ]
    best = max(runs, key=lambda run: float(run[0]), default=None)
    return {
        "verdict": results["verdict"]["word"], "best": best and float(best[0]), "attack": best and best[2],
        "pictures": sorted({probe for _, grade, _, probe in runs if grade in _PICTURES}),
        "clips": len({probe for *_, probe in runs}), "work": results["tool"]["work"],
    }  # fmt: skip


def table(lines: list[dict[str, Any]]) -> None:
    """Print what was advised and what came of it."""
    print(
        "| net | keep back | of the numbers | before | in the search | in the audit that followed | pictures | work |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for line in lines:
        held, after = line["withholding"], line["followed"]
        if held is None or after is None:
            print(f"| {line['net']} | — | — | {line['first']['best']:.1f} dB | {(held or {}).get('sentence')} | | | |")
            continue
        names = ", ".join(f"`{name}`" for name in held["layers"])
        print(
            f"| {line['net']} | {names} | {held['share']:.1%} | {line['first']['best']:.1f} dB, "
            f"{line['first']['attack']} | {held['after']['psnr']:.1f} dB | {after['best']:.1f} dB, {after['attack']} | "
            f"{len(after['pictures'])} of {after['clips']} | {line['seconds']:.0f} s |"
        )


def main() -> None:
    """Run the nets that are not done yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("withholding"), metavar="DIR")
    parser.add_argument("--nets", nargs="+", default=CHOSEN, metavar="NAME")
    parser.add_argument("--work", type=float, default=WORK, metavar="SECONDS")
    parser.add_argument("--steps", type=int, default=STEPS, metavar="N")
    parser.add_argument("--layers", type=int, default=LAYERS, metavar="N")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    kept = given.out / "withholding.jsonl"
    lines = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    if given.table:
        table(lines)
        return
    torch.set_num_threads(1)
    done = {(line["net"], line["work"], line["steps"]) for line in lines}
    for name in given.nets:
        if (name, given.work, given.steps) in done:
            continue
        with journaling(given.out / "parts", program_key()):
            made = case(name, given.work, given.steps, given.layers)
        with kept.open("a") as file:
            file.write(json.dumps(made) + "\n")
        print(f"{name}: {made['first']} {(made['withholding'] or {}).get('sentence')} {made['followed']}", flush=True)


if __name__ == "__main__":
    main()
