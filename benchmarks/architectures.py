"""What updates of video nets of every family give away: the catalogue of architectures.

Usage: python benchmarks/architectures.py [--out DIR] [--nets NAME ...] [--weights fresh trained] [--batches 1 2 4]
           [--steps N] [--changes SECONDS]
       python benchmarks/architectures.py --audit [--out DIR] [--nets NAME ...] [--weights fresh trained]
       python benchmarks/architectures.py --confirm [--out DIR] [--nets NAME ...]
       python benchmarks/architectures.py --write [--out DIR]

Each case has counted work and two clips: a net, its weights (fresh, or trained on shipped clips and textures) and the
clips of an update. What is done is kept in DIR/catalogue.jsonl, one line a case, and is not done again; --write makes
docs/architectures.md and report_templates/architectures.json of it. A case is attacks on its clips; with one clip and
--changes SECONDS, changes of the protocol too, as a what-if measures them. With --audit it is a whole audit with more
work, which measures these, attacks every layer alone and left out, and looks for layers to keep back; its line stands
for that of the attacks.
--confirm follows each set that was found by an audit with --trainable of all other layers, and keeps what it found in
DIR/confirmed.jsonl.
"""

import argparse
import datetime
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

import torch  # noqa: E402
from architecture_attacks import attacked  # noqa: E402
from architecture_nets import CLASSES, CLIP, NETS  # noqa: E402
from architecture_table import write  # noqa: E402
from deep_suite import with_statistics  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from auditor import __version__  # noqa: E402
from auditor.attack import PRESETS, Preset  # noqa: E402
from auditor.options import ScanOptions  # noqa: E402
from auditor.pipeline.documents.most_like import structure  # noqa: E402
from auditor.pipeline.progress import Silent  # noqa: E402
from auditor.pipeline.scan import choose_device, load_target, scan  # noqa: E402
from auditor.pipeline.time_plan import Prepared  # noqa: E402
from auditor.pipeline.units import uses_reference  # noqa: E402
from auditor.probe import moving_texture, shipped_probes  # noqa: E402
from auditor.records import InputSpec, Target  # noqa: E402

SPEC = InputSpec(frames=CLIP[1], channels=CLIP[0], height=CLIP[2], width=CLIP[3], layout="NCTHW")
# Reference seconds of an audit, and steps of a search where attacks are all there is.
SECONDS, STEPS = 60.0, 200
# Steps of Adam, after which every net tells its training clips apart.
TRAINING, RATE = 60, 2e-3
WEIGHTS, BATCHES = ("fresh", "trained"), (1, 2, 4)
_ENDS = {"inf": 200.0, "-inf": -200.0}


def net(name: str, weights: str = "fresh") -> nn.Module:
    """Return a net of the catalogue in eval mode; `weights` are fresh or trained."""
    torch.manual_seed(0)
    made = next(family[name] for family in NETS.values() if name in family)()
    made.input_shape, made.layout = CLIP, "NCTHW"
    made = with_statistics(made, SPEC)
    return trained(made) if weights == "trained" else made


def trained(made: nn.Module) -> nn.Module:
    """Train on shipped clips that no audit attacks and on textures, each a class of its own."""
    held = {p.name for p in shipped_probes(SPEC, PRESETS["fast"].probes)}
    others = [p.clip for p in shipped_probes(SPEC) if p.name not in held][: CLASSES // 2]
    clips = [*others, *(moving_texture(SPEC, 100 + k).clip for k in range(CLASSES - len(others)))]
    x, y = torch.stack(clips), torch.arange(len(clips))
    optimiser = torch.optim.Adam(made.parameters(), lr=RATE)
    made.eval()
    for _ in range(TRAINING):
        optimiser.zero_grad()
        F.cross_entropy(made(x.transpose(1, 2)), y).backward()
        optimiser.step()
    return made


def case(
    name: str, weights: str, batch: int, *, whole: bool = False, steps: int = STEPS, changes: float = 0.0
) -> dict[str, Any]:
    """Audit (`whole`) or attack one case and return its line; `changes` of the protocol get as many seconds."""
    source = (("name", name), ("weights", weights))
    options = ScanOptions(
        model=f"{Path(__file__)}:net", arg=source, batch=batch, device="cpu", what_if=whole, malicious_server=False,
        layers=10**6 if whole else 0,
    )  # fmt: skip
    target = load_target(options, choose_device("cpu"))
    begun = time.process_time()
    if whole:
        found = audited(options, target)
    else:
        found = attacked(target, options, replace(_preset(), steps=steps), changes if batch == 1 else 0.0)
    family = next(kind for kind, nets in NETS.items() if name in nets)
    return {
        "net": name, "family": family, "weights": weights, "batch": batch,
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
        "withholding": _withholding(results), "what_if": results["what_if"], "work": results["tool"]["work"],
        "steps": _preset().steps,
    }  # fmt: skip


_GRADES = ("NOT_SHOWN", "GIST", "RECOGNISABLE", "EXACT")


def _preset() -> Preset:
    fast = PRESETS["fast"]
    return replace(fast, probes=2, attacks=tuple(a for a in fast.attacks if not uses_reference(a)))


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
    options = ScanOptions(model=f"{Path(__file__)}:net", arg=(("name", name),), device="cpu")
    return structure(load_target(options, choose_device("cpu")).layers)


def confirmation(line: Mapping[str, Any]) -> dict[str, Any]:
    """Audit a case again where the layers to keep back are neither trained nor sent; return what was found then."""
    gone = set(line["withholding"]["layers"])
    source = (("name", line["net"]), ("weights", line["weights"]))
    options = ScanOptions(
        model=f"{Path(__file__)}:net", arg=source, device="cpu", what_if=False, malicious_server=False, layers=0
    )
    target = load_target(options, choose_device("cpu"))
    kept = [name for layer in target.layers if layer.name not in gone for name in layer.parameters]
    prepared = Prepared(target=target, preset=_preset(), seconds=SECONDS)
    results = scan(replace(options, trainable=tuple(kept)), Silent(), prepared).results
    best, attack = _best(results)
    return {
        "net": line["net"], "weights": line["weights"], "layers": sorted(gone), "verdict": results["verdict"]["word"],
        "best": best, "attack": attack, "grade": _grade(results),
    }  # fmt: skip


def cases(names: Sequence[str], weights: Sequence[str], batches: Sequence[int]) -> Iterator[tuple[str, str, int]]:
    """Yield every case, the ones that tell most first: fresh with one clip, then trained, then several clips."""
    for batch in batches:
        for state in weights:
            yield from ((name, state, batch) for name in names)


def _key(line: Mapping[str, Any]) -> tuple[str, str, int]:
    return line["net"], line["weights"], line["batch"]


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _add(path: Path, made: Mapping[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(made) + "\n")


def main() -> None:
    """Run what is not done yet, and write the catalogue where it is asked for."""
    names = [name for family in NETS.values() for name in family]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("architectures"), metavar="DIR")
    parser.add_argument("--nets", nargs="+", default=names, choices=names, metavar="NAME")
    parser.add_argument("--weights", nargs="+", default=WEIGHTS, choices=WEIGHTS)
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--steps", type=int, default=STEPS, metavar="N")
    parser.add_argument("--changes", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--audit", action="store_true")
    parser.add_argument("--confirm", action="store_true")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    kept = given.out / "catalogue.jsonl"
    confirmed = given.out / "confirmed.jsonl"
    lines, followed = _read(kept), _read(confirmed)
    if given.write:
        stand = {_key(line): line for line in sorted(lines, key=lambda line: line["audit"])}
        write(
            [*stand.values()], followed, [*cases(names, WEIGHTS, BATCHES)], {name: _structure(name) for name in names}
        )
        return
    torch.set_num_threads(1)
    if given.confirm:
        known = {(line["net"], line["weights"]) for line in followed}
        found = [line for line in lines if line["withholding"] and line["withholding"]["layers"]]
        for line in (one for one in found if one["net"] in given.nets and (one["net"], one["weights"]) not in known):
            _add(confirmed, confirmation(line))
        return
    done = {_key(line) for line in lines if line["audit"] or not given.audit}
    for one in cases(given.nets, given.weights, (1,) if given.audit else given.batches):
        if one in done:
            continue
        made = case(*one, whole=given.audit, steps=given.steps, changes=given.changes)
        _add(kept, made)
        print(f"{one}: {made['grade']}, best {made['best']} by {made['attack']}, {made['seconds']} s", flush=True)


if __name__ == "__main__":
    main()
