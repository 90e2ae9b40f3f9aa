"""What parts of a scan cost that are no steps of a search: measured once, in reference seconds or in steps."""

import resource
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter, process_time

import torch

from auditor.attack import Attack
from auditor.enhance import DatLight
from auditor.exposure import JacobianProducts
from auditor.exposure.layers import SHARE_OF_A_LAYER, products_for
from auditor.exposure.sensitivity import ModePrior, Sensitivity
from auditor.pipeline.context import Context, Observed
from auditor.records import Budget, Clip, work_of

# Positive controls on their own small nets, whatever is audited: 2 closed forms, and each search.
_CLOSED_CONTROLS, _SEARCH_CONTROL = 0.3, 0.8
# The control in the audited network: its 60 steps and the modes that it chooses among.
_OWN_NET_STEPS = 110.0
# Seconds of a core that rendering and writing the report took for audits of 6 to 50 results, and starting Python.
REPORT_SECONDS = 5.0
# Seconds of a core to import what a scan needs.
START_SECONDS = 3.0
# Of what is kept for scoring a unit, what it takes: networks that look at frames remember what they have seen.
SCORED = 0.2
# Work of a whole descent in steps of gradient matching, where the number of steps ends it.
_STEP = {"feature-inversion": 0.4, "span-inversion": 0.4, "layer-recursion": 1.0, "least-squares-matching": 1.0}
# Reference seconds that such a step takes beside the network, for the prior and the modes: it is most of a step on a
# tiny net (3.3 and 1.9 ms at 4x16x16, where a step of gradient matching takes 1.3).
_BESIDE = {
    "feature-inversion": 1.3e-3,
    "span-inversion": 1.3e-3,
    "layer-recursion": 2e-3,
    "least-squares-matching": 2e-3,
}


def controls(attacks: Sequence[Attack], planted: Sequence[str], own_net: bool, pace: float) -> float:
    """Return the work of the controls, `planted` the searches that known leaks are there for."""
    searches = {a.name for a in attacks if a.name in planted} | {"gradient-matching"}
    return _CLOSED_CONTROLS + _SEARCH_CONTROL * len(searches) + (_OWN_NET_STEPS * pace if own_net else 0.0)


def search(attack: Attack, budget: Budget, pace: float) -> float:
    """Return the work of a search: its share, or all its steps where these are less."""
    name = next((name for name in _STEP if attack.name.startswith(name)), "")
    steps = attack.steps_at_most(budget.steps)
    return min(budget.seconds, steps * (pace * _STEP.get(name, 1.0) + _BESIDE.get(name, 0.0)))


def exposure(context: Context, observed: Observed, share: float) -> float:
    """Return the work of the exposure analysis at most: setting up, and as many products as its share holds."""
    labels = context.client.targets(observed.labels)
    made: list[JacobianProducts] = []
    setting_up = work_of(lambda: made.append(JacobianProducts(context.client, observed.clips, labels)))
    prior = ModePrior(observed.clips, 1.0)
    whole = Sensitivity(made[0], prior, dict.fromkeys(made[0].names, 1.0))
    product = work_of(lambda: whole(prior.signs()))
    layers = sum(bool(frozenset(layer.parameters) & frozenset(made[0].names)) for layer in context.target.layers)
    all_of_it, each = products_for(layers, (share - setting_up) / product)
    return setting_up + product * (all_of_it + SHARE_OF_A_LAYER * each * layers)


def seconds_of_step(context: Context, observed: Observed) -> float:
    """Return the seconds of one step of gradient matching here; the quickest of a few, as other programs interfere."""
    x = observed.clips.clone().requires_grad_(True)
    labels = context.client.targets(observed.labels)

    def step() -> None:
        gradients = context.client(x, labels, create_graph=True)
        total = torch.stack([g.square().sum() for g in gradients.values()]).sum()
        if total.requires_grad:
            torch.autograd.grad(total, x, allow_unused=True)

    return seconds_of(step, context.device)


def seconds_of_gradient(context: Context, observed: Observed) -> float:
    """Return the seconds of one gradient here."""
    labels = context.client.targets(observed.labels)
    return seconds_of(lambda: context.client(observed.clips, labels), context.device)


def enlarging(clip: Clip, device: torch.device) -> float:
    """Return the seconds that a reference second of super-resolution takes on a device, from one frame of a clip."""
    enlarge, frame = DatLight(2), clip[:1].to(device)
    work = enlarge.seconds_estimate(tuple(frame.shape))  # loads the network, too
    if device.type != "cpu":
        enlarge(frame)  # the first call moves the network there
    clock = suitable_clock(device)
    begun = clock()
    enlarge(frame)
    return (clock() - begun) / work


def seconds_of(step: Callable[[], object], device: torch.device) -> float:
    """Return the least seconds of a few calls on a device: of the processor for one thread, else by the clock."""
    clock = suitable_clock(device)
    least, spent = float("inf"), 0.0
    for _ in range(20):
        begun = clock()
        step()
        took = clock() - begun
        least, spent = min(least, took), spent + took
        if spent > 2.0:
            break
    return least


def suitable_clock(device: torch.device) -> Callable[[], float]:
    """Return the clock that times calls on a device: of the processor for one thread, else of the wall."""
    if device.type == "cuda":
        return partial(_when_done, device)
    return process_time if torch.get_num_threads() == 1 else perf_counter


def _when_done(device: torch.device) -> float:
    """Return the time at which a GPU has done what it was told: calls only tell it."""
    torch.cuda.synchronize(device)
    return perf_counter()


def resident_bytes(otherwise: int) -> int:
    """Return the bytes that this process holds now; `otherwise` where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return otherwise
