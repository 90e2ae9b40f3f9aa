"""Architecture choices: the user's own model under small changes of the protocol, each measured the same way."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from glob import escape

from auditor.attack import LEAST_STEPS, Attack, GradientMatching
from auditor.errors import UsageError
from auditor.exposure import Exposed
from auditor.pipeline.context import (
    Context,
    Observed,
    extractor_parameters,
    observe_probes,
    unit_seed,
    view_of,
    with_sent,
)
from auditor.pipeline.deep.memory import available_bytes, not_held, too_large_to_expose, too_large_to_match
from auditor.pipeline.defended.exposed_update import expose_update
from auditor.pipeline.findings import Finding
from auditor.pipeline.progress import Display
from auditor.pipeline.run_attack import run_attack, solve
from auditor.pipeline.units import seconds_per_step
from auditor.pipeline.workers import Task, make_ahead
from auditor.records import (
    BatchNormMode,
    Budget,
    Ceiling,
    Clip,
    Clock,
    FederatedProtocol,
    Layer,
    Outcome,
    Probe,
    Reconstruction,
    Skipped,
    charged,
    counting,
    record,
)
from auditor.score import ClipScore, Grade, grade_clip, pair, score_clip

# Every variant is attacked with the same number of steps, few enough that all fit: the deltas compare, they do not
# exhaust.
MOST_STEPS = 300
# Steps of the audited protocol that preparing all variants costs; one of them has four clips.
_STEPS_TO_PREPARE = 20.0
# Shares of the work: exposure of the changed protocols, the audit's strongest attacks, and descents of equal length.
_EXPOSURE, _RIVALS, _DESCENTS = 0.25, 0.4, 0.3
# What a search computes besides its steps.
_MARGIN = 1.25


@record
class Variant:
    """One change of the protocol and what it did.

    `change` describes it, `action` recommends it; `skipped` says why it was not measured. `not_compared` says which of
    the audit's strongest attacks did not run on it as on the audited protocol, in one clause: without them it is not
    recommended.
    """

    name: str
    change: str
    action: str
    baseline: bool
    exposed: Exposed | None = None
    attack: str | None = None
    score: ClipScore | None = None
    grade: Grade | None = None
    steps: int = 0
    skipped: Skipped | None = None
    not_compared: str = ""


@record
class _Plan:
    name: str
    change: str
    action: str = ""
    protocol: FederatedProtocol
    baseline: bool = False
    obstacle: str = ""


@counting()
def variants(
    context: Context,
    probes: Sequence[Probe],
    gallery: Clip,
    pixel_variance: float,
    seconds: float,
    pace: float,
    display: Display,
    rivals: Sequence[Attack] = (),
    most: int = MOST_STEPS,
    ceiling: Ceiling | None = None,
    own: Exposed | None = None,
) -> tuple[Variant, ...]:
    """Measure exposure and attacks on the first probe for the audited protocol and each change of it.

    Every variant meets the closed forms, the `rivals` with at most `most` steps each, and a descent of common length;
    what came nearest counts. The exposure of the audited protocol is the audit's `own`, and the others are measured by
    as many products, so that differences mean something; without it none is. Nothing is returned when `seconds` of work
    do not even hold the preparation, at `pace` a step. What would end after the `ceiling` is left out.
    """
    clock, ceiling = Clock(seconds), ceiling or Ceiling()
    if _STEPS_TO_PREPARE * pace > seconds:
        return ()
    plans = _plans(context)
    prepared = [(p, _prepare(context, p, probes)) for p in plans]
    runnable = [x for _, x in prepared if not isinstance(x, Skipped)]
    paces = [seconds_per_step(b, o) for b, o in runnable]
    steps = min(MOST_STEPS, most, int(_DESCENTS * clock.left / max(_MARGIN * sum(paces), 1e-9)))
    budgets = iter(_equal_steps(_RIVALS * seconds / max(1, len(rivals)), paces, most))
    each = {plan.name: next(budgets) for plan, start in prepared if not isinstance(start, Skipped)}
    tasks: list[Task] = []
    share, limit = _EXPOSURE * seconds / max(1, len(runnable) - 1), seconds / len(plans)
    work = seconds / max(1, len(runnable) * (len(rivals) + 2))
    for plan, start in prepared:
        if not isinstance(start, Skipped):
            met_by = [partial(_rival, plan, *start, attack, each[plan.name], display) for attack in rivals]
            exposing = partial(_exposed, plan, *start, pixel_variance, share, own, display)
            tasks += [Task(run=run, seconds=work) for run in met_by]
            if own is not None and not plan.baseline:
                tasks.append(Task(run=exposing, seconds=share))
            tasks.append(Task(run=partial(_common, plan, *start, steps, limit, display), seconds=work))
    make_ahead(tasks, display, ceiling)
    results: list[Variant] = []
    base: Mapping[str, Reconstruction] = {}
    for plan, start in prepared:
        late = None if isinstance(start, Skipped) else ceiling.too_late("what-if", plan.name, seconds / len(runnable))
        ready = late or start
        if isinstance(ready, Skipped):
            results.append(
                Variant(name=plan.name, change=plan.change, action=plan.action, baseline=plan.baseline, skipped=ready)
            )
            continue
        met = {attack.name: _rival(plan, *ready, attack, each[plan.name], display) for attack in rivals}
        made = {name: one for name, one in met.items() if isinstance(one, Reconstruction)}
        if plan.baseline:
            base = made
        variant = _measure(plan, *ready, gallery, pixel_variance, steps, share, own, limit, made.values(), display)
        results.append(replace(variant, not_compared="" if plan.baseline else _not_compared(rivals, met, base)))
    return tuple(results)


def _equal_steps(seconds: float, paces: Sequence[float], most: int) -> list[Budget]:
    """Divide the work of one attack so that every variant holds as many steps: one of four clips takes four times.

    None has less than the audited protocol, whose pace is the first: what an attack solves before it searches costs as
    much where a step costs less.
    """
    parts = [max(pace, *paces[:1]) for pace in paces]
    steps = max(1, min(most, int(seconds / max(_MARGIN * sum(parts), 1e-9))))
    return [Budget(seconds=seconds * part / sum(parts), steps=steps) for part in parts]


def strongest(findings: Sequence[Finding]) -> tuple[Attack, ...]:
    """Return the attacks without frames of the scene that variants must meet: the best of all, and the best search."""
    blind = [f for f in findings if not f.reference]
    shown = next((f.attack for f in blind if f.counts and f.grade > Grade.NOT_SHOWN), None)
    search = next((f.attack for f in blind if not f.attack.closed_form), None)
    return tuple({a.name: a for a in (shown, search) if a is not None}.values())


def _rival(
    plan: _Plan, context: Context, observed: Observed, attack: Attack, budget: Budget, display: Display
) -> Reconstruction | Skipped:
    seed = unit_seed(context.seed, "what-if", plan.name, attack.name)
    return run_attack(
        attack, view_of(context, observed), budget, seed, display, f"what if: {plan.name} · {attack.title}"
    )


def _not_compared(
    rivals: Sequence[Attack], met: Mapping[str, Reconstruction | Skipped], base: Mapping[str, Reconstruction]
) -> str:
    """Say in one clause which of the audit's strongest attacks a variant did not meet as the audited protocol did.

    A closed form that does not apply has met it: that its equations do not hold there is what the change brings.
    """
    if all(attack.closed_form for attack in rivals):
        return "no search of this audit was carried through"
    for attack in rivals:
        one, before = met[attack.name], base.get(attack.name)
        if isinstance(one, Skipped):
            if not (attack.closed_form and one.because == "not-applicable"):
                return f"{attack.name}, the strongest of this audit, did not run on it: {one.reason}"
        elif one.outcome is Outcome.OUT_OF_BUDGET and (before is None or one.steps < before.steps):
            return f"{attack.name} was not allowed as many steps as on the audited protocol"
    return ""


def _plans(context: Context) -> list[_Plan]:
    protocol = context.protocol
    each = 4 if protocol.clips_each == 1 else 1
    clips = "4 clips" if each == 4 else "1 clip"
    plans = [
        _Plan(name="as audited", change=_describe(protocol), protocol=protocol, baseline=True),
        _Plan(
            name=f"batch {each}",
            change=f"an update averages {clips} instead of {protocol.clips_each}",
            action=f"Train on {clips} per update instead of {protocol.clips_each}.",
            protocol=replace(protocol, batch=each * protocol.clients),
            obstacle="its defences are given for this batch" if protocol.per_clip else "",
        ),
    ]
    alone = protocol.batch if protocol.per_clip else protocol.clips_each
    if context.client.defences:
        plans.append(
            _Plan(
                name="without defences",
                change=f"the update travels without {' and '.join(map(str, context.client.defences))}",
                protocol=replace(protocol, defence=(), clients=1, batch=alone),
            )
        )
    if protocol.steps > 1:
        plans.append(
            _Plan(
                name="one gradient",
                change="one gradient travels, instead of what local steps change (FedSGD)",
                action="Send one gradient instead of the result of local training.",
                protocol=replace(protocol, algorithm="FedSGD"),
            )
        )
    head = _head(context)
    two_part = bool(context.target.parts)
    everything = len(protocol.sent) == len(context.target.parameters) - len(extractor_parameters(context.target))
    if everything and two_part:
        plans.append(
            _Plan(
                name="last layer only",
                change="only the last layer of the head is trained and sent",
                action="Train and send the last layer of the head only.",
                protocol=replace(protocol, trainable=head),
                obstacle="" if 0 < len(head) < len(protocol.sent) else "the head has no other layer",
            )
        )
    elif everything:
        plans.append(
            _Plan(
                name="head only",
                change="the backbone is frozen; only the classification head is trained and sent",
                action="Freeze the backbone: train and send the classification head only.",
                protocol=replace(protocol, trainable=head),
                obstacle="" if head else "no classification head with parameters was found",
            )
        )
    else:
        plans.append(
            _Plan(
                name="everything trainable",
                change=f"all parameters{' of the head' if two_part else ''} are trained and sent",
                action=f"Train and send all parameters{' of the head' if two_part else ''}.",
                protocol=replace(protocol, trainable=("*",), frozen=()),
            )
        )
    other_mode: BatchNormMode = "train" if protocol.bn == "eval" else "eval"
    kind = context.target.fidelity.batchnorm
    plans.append(
        _Plan(
            name=f"BatchNorm {other_mode}",
            change=f"BatchNorm uses {'the batch' if other_mode == 'train' else 'its running'} statistics",
            action=f"Train with BatchNorm in {other_mode} mode.",
            protocol=replace(protocol, bn=other_mode, send_buffers=False),
            obstacle="" if kind == "kept" else f"the model has no BatchNorm to switch ({kind})",
        )
    )
    return plans


def _describe(protocol: FederatedProtocol) -> str:
    left = f" but {len(protocol.frozen)} frozen ones" if protocol.frozen else ""
    matching = "parameters matching " + ", ".join(protocol.trainable)
    sent = f"all parameters{left}" if protocol.trainable == ("*",) else matching
    buffers = " with its running statistics sent" if protocol.send_buffers else ""
    dropout = ", dropout on" if protocol.dropout == "on" else ""
    local = f", {protocol.steps} local steps" if protocol.algorithm == "FedAvg" else ""
    clients = f", {protocol.clients} clients" if protocol.clients > 1 else ""
    defended = f", under {' and '.join(protocol.defence)}" if protocol.defence else ""
    return f"batch {protocol.batch}{clients}{local}, {sent} sent, BatchNorm {protocol.bn}{buffers}{dropout}{defended}"


def _head(context: Context) -> tuple[str, ...]:
    """Exact names of the head's parameters: the layers from the last Linear on."""
    layers = context.target.layers
    last = next((layer.index for layer in reversed(layers) if _ends_in_classes(layer, context.target.classes)), None)
    if last is None:
        return ()
    start = max((x.index for x in layers if x.kind == "linear" and x.index <= last), default=last)
    return tuple(escape(n) for layer in layers if layer.index >= start for n in layer.parameters)


def _ends_in_classes(layer: Layer, classes: int) -> bool:
    return bool(layer.output_shape) and layer.output_shape[-1] == classes


def _prepare(context: Context, plan: _Plan, probes: Sequence[Probe]) -> tuple[Context, Observed] | Skipped:
    if plan.obstacle:
        return Skipped(stage="what-if", what=plan.name, because="not-applicable", reason=plan.obstacle)
    try:
        protocol = with_sent(context.target, plan.protocol)
        changed = replace(context, protocol=protocol, client=context.client.under(protocol))
        too_large = too_large_to_match(changed, available_bytes(changed.device))
        if too_large is not None:
            return not_held(plan.name, too_large, stage="what-if")
        return changed, observe_probes(changed, probes[:1])[0]
    except (UsageError, RuntimeError, ValueError) as error:
        return Skipped(stage="what-if", what=plan.name, because="failed", reason=str(error).splitlines()[0])


def _measure(
    plan: _Plan,
    context: Context,
    observed: Observed,
    gallery: Clip,
    pixel_variance: float,
    steps: int,
    seconds: float,
    own: Exposed | None,
    limit: float,
    met: Iterable[Reconstruction],
    display: Display,
) -> Variant:
    exposed = _exposed(plan, context, observed, pixel_variance, seconds, own, display)
    variant = Variant(name=plan.name, change=plan.change, action=plan.action, baseline=plan.baseline, exposed=exposed)
    common = _common(plan, context, observed, steps, limit, display)
    made = [*met, *([common] if isinstance(common, Reconstruction) else [])]
    if isinstance(common, Skipped) and not made:
        return replace(variant, skipped=common)
    scores = [_score(observed, one, gallery) for one in made]
    best = max(range(len(made)), key=lambda i: scores[i].gain)
    score = scores[best]
    return replace(variant, attack=made[best].attack, score=score, grade=grade_clip(score), steps=made[best].steps)


def _exposed(
    plan: _Plan,
    context: Context,
    observed: Observed,
    pixel_variance: float,
    seconds: float,
    own: Exposed | None,
    display: Display,
) -> Exposed | None:
    """Return the exposure by as many products as the audit's own; None where these do not fit."""
    if plan.baseline:
        return own
    if own is None or too_large_to_expose(context, available_bytes(context.device)) is not None:
        return None
    with display.unit(f"what if: {plan.name} · exposure", seconds) as progress:
        found = expose_update(context, observed, pixel_variance, seconds, progress, own.products)
    return found if isinstance(found, Exposed) else None


def _score(observed: Observed, made: Reconstruction, gallery: Clip) -> ClipScore:
    with charged(0.0):  # little, and some of it is remembered
        order = pair(observed.clips.cpu(), made.clips.cpu())
        return score_clip(observed.probe, made.clips[order[0]].cpu(), gallery)


def _common(
    plan: _Plan, context: Context, observed: Observed, steps: int, limit: float, display: Display
) -> Reconstruction | Skipped:
    """Use a closed form if one solves this variant, else gradient matching with the common number of steps."""
    view = view_of(context, observed)
    seed = unit_seed(context.seed, "what-if", plan.name)
    made = solve(view, limit, seed)
    if made is None and steps < LEAST_STEPS:
        return _no_time(plan, f"only {steps} steps fit into the work of each variant")
    if made is None:
        # The number of steps is common to all variants and ends the descent.
        attack, budget = GradientMatching(), Budget(seconds=math.inf, steps=steps)
        made = run_attack(attack, view, budget, seed, display, f"what if: {plan.name} · {attack.title}")
    return replace(made, stage="what-if", what=plan.name) if isinstance(made, Skipped) else made


def _no_time(plan: _Plan, reason: str) -> Skipped:
    return Skipped(
        stage="what-if", what=plan.name, because="out-of-budget", reason=reason, remedy="give more --max-time"
    )
