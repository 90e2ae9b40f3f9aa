"""An attack on another device beside the same attack on the processor."""

from dataclasses import replace

import torch
from attack_cases import BUDGET, Case, run

import emulated_device
from auditor.attack import Attack
from auditor.records import Reconstruction, Skipped
from auditor.score.psnr import psnr
from emulated_device.moving import moved
from emulated_device.traffic import Traffic

# Beyond this a clip is exact, and rounding alone decides how many decibels it has.
EXACT_DB = 60.0
Made = Reconstruction | Skipped | str


def on_device(attack: Attack, case: Case, device: torch.device, steps: int = BUDGET.steps) -> tuple[Made, Traffic]:
    """Run an attack on its case on a device; return what it made and, of the emulated one, what crossed meanwhile."""
    view = moved(case.view(case.clips()), device)
    with emulated_device.counted() as traffic:
        made = run(attack, view, budget=replace(BUDGET, steps=steps))
    return made, traffic


def on_processor(attack: Attack, case: Case, steps: int) -> Made:
    """Run an attack on its case as usual."""
    return run(attack, case.view(case.clips()), budget=replace(BUDGET, steps=steps))


def difference(made: Reconstruction, expected: Reconstruction, case: Case) -> float:
    """Return by how many decibels the two differ at most, clip by clip and best match for best match."""
    best = [[max(_db(one.cpu(), truth) for one in r.clips) for truth in case.clips()] for r in (made, expected)]
    return max(abs(a - b) for a, b in zip(*best, strict=True))


def _db(clip, truth) -> float:
    return min(EXACT_DB, float(psnr(truth, clip)))


def a_step(few: Traffic, many: Traffic, more: int) -> tuple[float, float]:
    """Return waits and copies a step, from runs of which one makes `more` steps."""
    copies = (many.to_processor + many.to_device) - (few.to_processor + few.to_device)
    return (many.waits - few.waits) / more, copies / more
