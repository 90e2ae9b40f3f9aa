"""What updates of video nets of every family give away: the catalogue of architectures, by one command that resumes.

Usage: python benchmarks/architectures.py [--out FILE] [--stages STAGE ...] [--nets NAME ...] [--weights fresh trained]
           [--batches 1 2 4]

Every stage does what is not in FILE yet, one line each, and adds it; the last writes docs/architectures.md and
report_templates/architectures.json of all lines. All work is counted, none by the clock.

attacks
    Every net with weights that are fresh, or trained on shipped clips and textures, and 1, 2 and 4 clips an update.
    Trained nets with one clip meet changes of the protocol too, as a what-if measures them; nets with BatchNorm also
    train with the statistics of the batch, which they keep or send.
layers
    Every layer of some nets alone (benchmarks/layers.py), and of token nets what the order of patches has to do with it
    (benchmarks/patch_orders.py).
audits
    Whole audits of nets with one clip and fresh weights, which attack every layer alone and left out, look for layers
    to keep back and measure changes of the protocol; their lines stand for those of the attacks.
confirmations
    Each set of layers that an audit says to keep back is followed by an audit with --trainable of all other layers.
page
    Writes page and data.
"""

import argparse
import datetime
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

import torch  # noqa: E402
from architecture_attacks import attacked  # noqa: E402
from architecture_cases import BATCHES, WEIGHTS, blind, options_of, target_of  # noqa: E402
from architecture_nets import CLIP, NETS  # noqa: E402
from architecture_table import write  # noqa: E402
from layers import AGAIN, EFFORT, FEW, NAMED, fell_short, lines  # noqa: E402
from patch_orders import ORDERED, orders  # noqa: E402

from auditor import __version__  # noqa: E402
from auditor.attack import PRESETS, Preset  # noqa: E402
from auditor.options import ScanOptions  # noqa: E402
from auditor.pipeline.documents.most_like import structure  # noqa: E402
from auditor.pipeline.progress import Silent  # noqa: E402
from auditor.pipeline.scan import scan  # noqa: E402
from auditor.pipeline.time_plan import Prepared  # noqa: E402
from auditor.records import Target  # noqa: E402

KEPT = Path(__file__).with_suffix(".jsonl")
STAGES = ("attacks", "layers", "audits", "confirmations", "page")
# Reference seconds of an audit.
SECONDS = 60.0
# Steps of a search where attacks are all there is, by weights and clips: a step of more clips costs as many times more.
STEPS = {
    ("fresh", 1): 200, ("fresh", 2): 100, ("fresh", 4): 60,
    ("trained", 1): 60, ("trained", 2): 60, ("trained", 4): 60,
}  # fmt: skip
# Of BatchNorm in train mode: the update alone, and with the running statistics that it changed.
BATCHNORM: Mapping[str, Mapping[str, Any]] = {
    "eval": {},
    "train": {"bn": "train"},
    "sent": {"bn": "train", "send_buffers": True},
}
Case = tuple[str, str, int, str]
_ENDS = {"inf": 200.0, "-inf": -200.0}


def case(one: Case, *, whole: bool = False) -> dict[str, Any]:
    """Audit (`whole`) or attack one case and return its line."""
    name, weights, batch, batchnorm = one
    options = options_of(
        name, weights, batch=batch, what_if=whole, layers=10**6 if whole else 0, **BATCHNORM[batchnorm]
    )  # fmt: skip
    target = target_of(options)
    begun = time.process_time()
    if whole:
        found = audited(options, target)
    else:
        changed = (weights, batch, batchnorm) == ("trained", 1, "eval")
        found = attacked(target, options, replace(_preset(), steps=STEPS[weights, batch]), changes=changed)
    return {
        "stage": "audits" if whole else "attacks",
        "net": name, "family": next(kind for kind, nets in NETS.items() if name in nets), "weights": weights,
        "batch": batch, "batchnorm": batchnorm,
        "date": datetime.date.today().isoformat(), "version": __version__,
        "parameters": sum(p.numel() for p in target.parameters.values()),
        "audit": whole, **found, "what_if": _what_if(found["what_if"]),
        "seconds": round(time.process_time() - begun, 1),
    }  # fmt: skip


def audited(options: ScanOptions, target: Target) -> dict[str, Any]:
    """Audit a case and return what its line tells of it."""
    results = scan(options, Silent(), Prepared(target=target, preset=_preset(), seconds=SECONDS)).results
    best, attack = _best(results)
    counted = [la["determinacy"]["share"] for la in results["layers"] if la["determinacy"] is not None]
    exposed = results["exposure"]["all"]
    return {
        "verdict": results["verdict"]["word"], "best": best, "attack": attack, "blind": _blind(results),
        "grade": _grade(results),
        "determined": [sum(share >= 1.0 for share in counted), len(counted)],
        "exposed": None if exposed is None else exposed["psnr"],
        "exposed_share": None if exposed is None else exposed["determined"],
        "recursion": _depth(results),
        "layers": _layers(results), "ranks": (results["layer_attacks"] or {}).get("ranks"),
        "layer_steps": (results["layer_attacks"] or {}).get("steps"),
        "withholding": _withholding(results), "what_if": results["what_if"], "work": results["tool"]["work"],
        "steps": _preset().steps,
    }  # fmt: skip


_GRADES = ("NOT_SHOWN", "GIST", "RECOGNISABLE", "EXACT")


def _preset() -> Preset:
    return blind(PRESETS["fast"])


def _grade(results: Mapping[str, Any]) -> str:
    return max((f["grade"] for f in results["findings"] if f["counts"]), key=_GRADES.index, default="NOT_SHOWN")


def _number(value: Any) -> float | None:
    return _ENDS.get(value) if isinstance(value, str) else value


def _runs(results: Mapping[str, Any]) -> Iterator[tuple[float, str, Mapping[str, Any]]]:
    for finding in results["findings"]:
        if finding["counts"] and not finding["reference_frames"]:
            for result in finding["results"]:
                if result["score"] is not None and result["kind"] != "canary":
                    yield _number(result["score"]["psnr"]) or 0.0, finding["attack"], result


def _best(results: Mapping[str, Any]) -> tuple[float | None, str | None]:
    return max(((psnr, attack) for psnr, attack, _ in _runs(results)), default=(None, None))


def _blind(results: Mapping[str, Any]) -> float | None:
    found = max(_runs(results), key=lambda run: run[0], default=None)
    return None if found is None else max(_number(v) or 0.0 for v in found[2]["score"]["baselines"].values())


def _depth(results: Mapping[str, Any]) -> int:
    """Count the values that the deepest recursion read off exactly."""
    depths = [r.get("depth") or () for f in results["findings"] for r in f["results"]]
    return max((sum(d["how"] != "sought" for d in depth) for depth in depths), default=0)


def _layers(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for layer in results["layers"]:
        made = layer["recovery"]
        rows.append({
            "name": layer["name"], "kind": layer["kind"], "elements": layer["elements"],
            "determined": None if layer["determinacy"] is None else layer["determinacy"]["share"],
            "values": None if not layer["input_shape"] else prod(layer["input_shape"]) / prod(CLIP),
            "exposed": None if layer["exposure"] is None else layer["exposure"]["psnr"], "gradient": layer["gradient"],
            "alone": _part(made, "alone"), "without": _part(made, "without"),
        })  # fmt: skip
    return rows


def _part(made: Mapping[str, Any] | None, which: str) -> dict[str, Any] | None:
    part = None if made is None else made[which]
    return None if part is None else {k: part[k] for k in ("psnr", "gain", "grade", "attack")}


def _withholding(results: Mapping[str, Any]) -> Any:
    return None if results["layer_attacks"] is None else results["layer_attacks"]["withholding"]


def _what_if(variants: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    keep = ("name", "attack", "gain", "grade", "delta_gain", "not_compared", "exposure_psnr")
    return [{**{k: v[k] for k in keep}, "skipped": bool(v["skipped"])} for v in variants]


def _structure(name: str) -> dict[str, Any]:
    return structure(target_of(options_of(name, "fresh")).layers)


def confirmation(line: Mapping[str, Any]) -> dict[str, Any]:
    """Audit a case again where the layers to keep back are neither trained nor sent; return what was found then."""
    gone = set(line["withholding"]["layers"])
    options = options_of(line["net"], line["weights"])
    target = target_of(options)
    kept = [name for layer in target.layers if layer.name not in gone for name in layer.parameters]
    prepared = Prepared(target=target, preset=_preset(), seconds=SECONDS)
    results = scan(replace(options, trainable=tuple(kept)), Silent(), prepared).results
    best, attack = _best(results)
    return {
        "stage": "confirmations", "net": line["net"], "weights": line["weights"], "layers": sorted(gone),
        "date": datetime.date.today().isoformat(),
        "verdict": results["verdict"]["word"], "best": best, "attack": attack, "grade": _grade(results),
    }  # fmt: skip


def cases(names: Sequence[str], weights: Sequence[str], batches: Sequence[int]) -> Iterator[Case]:
    """Yield every case, the ones that tell most first: one clip, fresh then trained, then several clips."""
    for batch in batches:
        for state in weights:
            yield from ((name, state, batch, "eval") for name in names)


def statistics(names: Sequence[str]) -> Iterator[Case]:
    """Yield the cases of nets with BatchNorm in train mode, which keep its statistics or send them."""
    for name in names:
        if target_of(options_of(name, "fresh")).fidelity.batchnorm == "kept":
            yield from ((name, "fresh", 1, batchnorm) for batchnorm in ("train", "sent"))


def _key(line: Mapping[str, Any]) -> Case:
    return line["net"], line["weights"], line["batch"], line["batchnorm"]


class Catalogue:
    """The lines of the catalogue: what is done, and the file that it is added to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def of(self, *stages: str) -> list[dict[str, Any]]:
        """Return the lines of some stages."""
        return [line for line in self._lines if line["stage"] in stages]

    def add(self, made: dict[str, Any], told: str) -> None:
        """Keep a line and say what it is."""
        with self._path.open("a") as file:
            file.write(json.dumps(made, separators=(",", ":")) + "\n")
        self._lines.append(made)
        print(f"{made['stage']}: {made['net']}, {told}", flush=True)


def attack(kept: Catalogue, given: argparse.Namespace) -> None:
    """Attack every case that is not attacked yet."""
    done = {_key(line) for line in kept.of("attacks")}
    for one in (*cases(given.nets, given.weights, given.batches), *statistics(given.nets)):
        if one not in done:
            made = case(one)
            kept.add(made, f"{one[1:]}: {made['grade']}, {made['best']} dB by {made['attack']}, {made['seconds']} s")


def single_layers(kept: Catalogue, given: argparse.Namespace) -> None:
    """Attack the layers of some nets one by one."""
    for name in (one for one in NAMED if one in given.nets or one not in _names()):
        steps, restarts = EFFORT.get(name, EFFORT[""])
        _alone(kept, name, FEW.get(name, ()), steps, restarts)
        first = [line for line in kept.of("layers") if line["net"] == name and line["steps"] == steps]
        short = fell_short(first) if name not in EFFORT else []
        if short:
            _alone(kept, name, short, *AGAIN)
    told = {(line["net"], line["layer"]) for line in kept.of("orders")}
    for name, names in ORDERED.items():
        due = [layer for layer in names if (name, layer) not in told]
        for made in orders(name, due) if name in given.nets and due else ():
            kept.add(made, f"{made['layer']}: {made['psnr']} dB, {made['ordered']} dB in the best order")


def _alone(kept: Catalogue, name: str, wanted: Sequence[str], steps: int, restarts: int) -> None:
    for made in lines(name, wanted, 1, steps, restarts, kept.of("layers")):
        kept.add(made, f"{made['layer']}: {made['psnr']} dB by {made['attack']}, {made['cpu']} s")


def audit(kept: Catalogue, given: argparse.Namespace) -> None:
    """Audit nets with fresh weights and one clip, those whose layers are attacked first."""
    done = {_key(line) for line in kept.of("audits")}
    order = sorted(given.nets, key=lambda name: name not in NAMED)
    for one in ((name, "fresh", 1, "eval") for name in order):
        if one not in done:
            made = case(one, whole=True)
            kept.add(made, f"{made['verdict']}, {made['best']} dB by {made['attack']}, {made['seconds']} s")


def confirm(kept: Catalogue, given: argparse.Namespace) -> None:
    """Follow every set of layers that was found."""
    known = {(line["net"], line["weights"], tuple(line["layers"])) for line in kept.of("confirmations")}
    for line in kept.of("audits"):
        gone = tuple(sorted((line["withholding"] or {}).get("layers") or ()))
        if gone and line["net"] in given.nets and (line["net"], line["weights"], gone) not in known:
            made = confirmation(line)
            kept.add(made, f"without {', '.join(gone)}: {made['grade']}, {made['best']} dB by {made['attack']}")


def page(kept: Catalogue, given: argparse.Namespace) -> None:
    """Write page and data of all that was done."""
    write(
        kept.of("attacks", "audits"), kept.of("layers"), kept.of("orders"), kept.of("confirmations"), kept.of("rules"),
        [*cases(_names(), WEIGHTS, BATCHES)], [*statistics(_names())], {name: _structure(name) for name in _names()},
    )  # fmt: skip


def _names() -> list[str]:
    return [name for family in NETS.values() for name in family]


_DOES: Mapping[str, Callable[[Catalogue, argparse.Namespace], None]] = dict(
    zip(STAGES, (attack, single_layers, audit, confirm, page), strict=True)
)


def main() -> None:
    """Run the stages, each for what is not done yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=KEPT, metavar="FILE")
    parser.add_argument("--stages", nargs="+", default=STAGES, choices=STAGES, metavar="STAGE")
    parser.add_argument("--nets", nargs="+", default=_names(), choices=_names(), metavar="NAME")
    parser.add_argument("--weights", nargs="+", default=WEIGHTS, choices=WEIGHTS)
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    given = parser.parse_args()
    torch.set_num_threads(1)
    kept = Catalogue(given.out)
    for stage in (one for one in STAGES if one in given.stages):
        _DOES[stage](kept, given)


if __name__ == "__main__":
    main()
