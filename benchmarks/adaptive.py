"""Is an attack that knows a defence ever behind the same attack that does not, on the same defended update?

    python benchmarks/adaptive.py runs.jsonl [--steps 100] [--clips 1] [--nets N ...] [--attacks A ...]

Every run is one attack on one update of one net of the suite under one defence, with the same seed in both forms:
knowing the defence, and taking the update for a bare one. Finished runs are kept in the file, and the same command goes
on. The table at the end names the mean difference in dB, and every pair in which knowing costs more than 0.5 dB.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from model_check import SPEC, target_of
from suite import SUITE

from auditor.attack import BY_NAME, Attack
from auditor.federated import BareSize, ClientTraining, families
from auditor.option_rules import options_from
from auditor.options import ClientOptions
from auditor.pipeline.context import Context, Observed, unit_seed, view_of
from auditor.pipeline.run_attack import run_attack
from auditor.pipeline.training import loss_of, observe_all, trained
from auditor.probe import shipped_probes
from auditor.records import Budget, Reconstruction, Target, View
from auditor.score import psnr

# Strengths as `auditor.federated.families` tells them: strong enough that knowing matters, and not yet hopeless.
STRENGTHS = {
    "gaussian": (0.1, 1.0),
    "laplace": (0.3,),
    "clip+gaussian": (0.3,),
    "top-k": (10.0, 100.0),
    "random-k": (10.0,),
    "prune": (10.0,),
    "quantise": (4.0, 16.0 / 3.0),
    "float16": (1.0,),
    "sign": (1.0,),
    "clip": (100.0,),
}
ATTACKS = ("least-squares-matching", "gradient-matching")
LONG, BEHIND = 1e7, 0.5


def context_of(target: Target, specs: tuple[str, ...]) -> Context:
    """Return clients of a net under defences."""
    options = options_from(ClientOptions, {"model": "suite", "device": "cpu", "defence": list(specs)})
    return trained(target, options, loss_of(options.loss, target))


def unknowing(view: View) -> View:
    """Return the view of an attacker who takes the update for a bare one."""
    client = view.client.under(replace(view.client.protocol, defence=()))
    return replace(view, client=client, knowledge=replace(view.knowledge, defences=()))


def measured(attack: Attack, context: Context, observed: Observed, steps: int) -> dict[str, Any]:
    """Return the dB of both forms, from the same start, and the seconds of processor time that they took."""
    knowing = view_of(context, observed)
    seed, found = unit_seed(0, attack.name, observed.probe.name), {}
    for form, view in (("knowing", knowing), ("bare", unknowing(knowing))):
        begun = time.process_time()
        made = run_attack(attack, view, Budget(seconds=LONG, steps=steps), seed)
        if not isinstance(made, Reconstruction):
            return {"skipped": made.reason}
        found[form] = round(float(psnr(observed.probe.clip, made.clips[0].cpu())), 2)
        found[f"{form}_seconds"] = round(time.process_time() - begun, 1)
    return found


def runs(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield every run that is not in the file."""
    kept = Path(arguments.file)
    done = {tuple(r[k] for k in ("net", "clip", "defence", "attack", "steps")) for r in read(kept)}
    probes = shipped_probes(SPEC, arguments.clips)
    for clip in probes:
        for net in arguments.nets:
            target = target_of(SUITE[net](), SPEC)
            (bare,) = observe_all(context_of(target, ()), [clip])
            entries = torch.cat([g.double().flatten() for g in bare.update.gradients.values()])
            size = BareSize(norm=float(entries.norm()), entries=len(entries))
            for family in families(tuple(STRENGTHS), ClientTraining()):
                for strength in STRENGTHS[family.name]:
                    specs = family.specs(strength, size)
                    name = f"{family.name} {strength:.3g}"
                    wanted = [a for a in arguments.attacks if (net, clip.name, name, a, arguments.steps) not in done]
                    if not wanted:
                        continue
                    context = context_of(target, specs)
                    (observed,) = observe_all(context, [clip])
                    for attack in wanted:
                        yield {
                            "net": net, "clip": clip.name, "defence": name, "specs": specs, "attack": attack,
                            "steps": arguments.steps, **measured(BY_NAME[attack], context, observed, arguments.steps),
                        }  # fmt: skip


def read(path: Path) -> list[dict[str, Any]]:
    """Return the finished runs of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(found: list[dict[str, Any]]) -> str:
    """Return a Markdown table of mean differences by defence and attack, and the pairs that are behind."""
    scored = [r for r in found if "knowing" in r]
    head = ("defence", "attack", "nets", "knowing, mean", "bare, mean", "least difference", "behind")
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, attack in dict.fromkeys((r["defence"], r["attack"]) for r in scored):
        held = [r for r in scored if (r["defence"], r["attack"]) == (name, attack)]
        off = [r["knowing"] - r["bare"] for r in held]
        means = [f"{sum(r[form] for r in held) / len(held):.1f} dB" for form in ("knowing", "bare")]
        behind = sum(d < -BEHIND for d in off)
        cells = (name, attack, len({r["net"] for r in held}), *means, f"{min(off):+.1f} dB", behind)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    for r in scored:
        if r["knowing"] - r["bare"] < -BEHIND:
            where = f"{r['net']}, {r['clip']}, {r['defence']}, {r['attack']}"
            lines.append(f"behind: {where}: {r['knowing']} dB against {r['bare']} dB")
    return "\n".join(lines)


def main() -> None:
    """Run what is not in the file, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--clips", type=int, default=1)
    parser.add_argument("--nets", nargs="*", default=list(SUITE), choices=list(SUITE))
    parser.add_argument("--attacks", nargs="*", default=list(ATTACKS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for run in runs(arguments):
        with Path(arguments.file).open("a") as file:
            file.write(json.dumps(run) + "\n")
        print(run, flush=True)
    print(table(read(Path(arguments.file))))


if __name__ == "__main__":
    main()
