"""What if the server were malicious? The user's model, manipulated by published recipes (threat model F).

Never part of the verdict: the audit is of an honest server. Beside every result stands what a client would have seen
before training.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Literal

import torch

from auditor.attack import LEAST_STEPS, Attack, GradientMatching
from auditor.attack.malicious import (
    FishingInversion,
    Hook,
    ImprintInversion,
    caught,
    fish_class,
    fish_feature,
    measurement,
)
from auditor.errors import AuditError
from auditor.federated import LocalClient
from auditor.federated.model_check import check_model
from auditor.model.manipulated import imprinted, with_values
from auditor.pipeline.context import Context, Observed, observe_probes, unit_seed, view_of
from auditor.pipeline.planted.manipulation import MaliciousServer, Manipulation
from auditor.pipeline.progress import Display, Silent
from auditor.pipeline.run_attack import run_attack, solve
from auditor.pipeline.units import seconds_per_step
from auditor.pipeline.what_if import MOST_STEPS
from auditor.pipeline.workers import Task, make_ahead
from auditor.probe import moving_texture
from auditor.records import Budget, Ceiling, Clip, Clips, Clock, Probe, Reconstruction, Skipped, Target, Update, record
from auditor.records.work import charged, counting
from auditor.score import ClipScore, pair, psnr, score_clip

# The smallest batch at which hiding in the crowd could work at all, where clients send one clip an update.
_BATCH = 4
# 16 bins a clip leave 94% of a batch of any size alone in their bins, if quantiles fit: (1 - 1/16B)^(B-1).
_BINS_A_CLIP, _LEAST_BINS = 16, 64
_MOST_WEIGHTS = 2**26  # 256 MiB of float32, and as much again for their gradient
# float32 leaves 90 to 160 dB; a mixture of two clips is far below.
_EXACT_DB = 60.0
# A bisection over 40 standard deviations ends at 1e-3 of one.
_MOST_ROUNDS = 16
_ONE = 0.1
_WIDEST = 20.0
_PUBLIC = 8
_CHECK_SECONDS = 10.0
# Of the work: descents, planned with a margin; the number of steps is what ends them. A closed form of the honest batch
# has a limit of its own, so that nothing depends on when it runs.
_DESCENTS, _MARGIN, _CLOSED_SECONDS = 0.6, 1.25, 60.0
# What is begun ahead should not turn out to have too little work.
_SURELY = 1.3
# Gradients of a whole batch that everything but the descents costs: two clients of each of three models, their clips
# one by one, and the certificates.
_STEPS_TO_PREPARE = 20.0
# What a recipe raises that breaks on a net.
_DEFECTS = (RuntimeError, ValueError, LookupError, ArithmeticError, AuditError)
Because = Literal["not-applicable", "out-of-budget", "failed"]


@counting()
def malicious_server(
    context: Context,
    probes: Sequence[Probe],
    gallery: Clip,
    seconds: float,
    pace: float,
    display: Display,
    ceiling: Ceiling | None = None,
) -> MaliciousServer:
    """Manipulate the model in two ways and attack what clients send back; all on the first probe and a null.

    Clients send one gradient: a malicious server asks for one local step. Nothing is measured when `seconds` of work do
    not even hold the preparation, at `pace` a step of the audited batch. What would end after the `ceiling` is left
    out.
    """
    clock, honest = Clock(seconds), _one_gradient(context)
    batch = honest.protocol.batch
    plans = _plans(batch)
    if _STEPS_TO_PREPARE * pace * batch > seconds * context.protocol.batch:
        why = f"a step is {pace:.2g} s of work, and {max(0.0, seconds):.0f} s were left"
        gone = (replace(p, skipped=_skipped(p, "out-of-budget", why)) for p in plans)
        return MaliciousServer(audited=(), manipulations=tuple(gone))
    try:
        observed = observe_probes(honest, (probes[0], probes[-1]))
    except (RuntimeError, ValueError, AuditError) as error:
        return MaliciousServer(audited=(), manipulations=tuple(replace(p, skipped=_failed(p, error)) for p in plans))
    with display.unit("malicious server: client-side check", _CHECK_SECONDS):
        audited = check_model(honest.target, honest.client, observed[0].clips, observed[0].labels, _CHECK_SECONDS)
    # One descent of the batch (the honest server), two of one clip (fishing and its null).
    three = seconds_per_step(honest, observed[0]) * (1.0 + 2.0 / batch)
    steps = min(MOST_STEPS, int(_DESCENTS * clock.left / (_MARGIN * three)))
    limit = min(_CLOSED_SECONDS, max(1.0, clock.left))
    case = _Case(context=honest, observed=observed, gallery=gallery, steps=steps, limit=limit, display=display)
    ceiling = ceiling or Ceiling()
    make_ahead(_tasks(honest, probes, gallery, steps, limit, pace), display, ceiling)
    base = _honest(case)
    made = []
    for plan, measure in zip(plans, (_imprint, _fishing), strict=True):
        late = ceiling.too_late("what-if", f"malicious server: {plan.name}", seconds / len(plans))
        if late is not None:
            made.append(replace(plan, skipped=late))
            continue
        try:
            made.append(measure(plan, case, base))
        except _DEFECTS as error:
            # A recipe that breaks on this net must not cost the audit; it is told.
            made.append(replace(plan, skipped=_failed(plan, error)))
    return MaliciousServer(audited=audited, manipulations=tuple(made))


@record
class _Case:
    """What every manipulation is measured on: the honest set-up, one batch and another for the null control."""

    context: Context
    observed: tuple[Observed, ...]
    gallery: Clip
    steps: int
    limit: float
    display: Display


def malicious_ahead(
    context: Context, probes: Sequence[Probe], gallery: Clip, seconds: float, pace: float
) -> tuple[Task, ...]:
    """Return what makes the attacks of `malicious_server` long before it, where the seconds hold all their steps."""
    honest = _one_gradient(context)
    batch = honest.protocol.batch
    if _SURELY * _MARGIN * MOST_STEPS * pace * (batch + 2.0) / context.protocol.batch > _DESCENTS * seconds:
        return ()
    return _tasks(honest, probes, gallery, MOST_STEPS, _CLOSED_SECONDS, pace)


def _tasks(
    honest: Context, probes: Sequence[Probe], gallery: Clip, steps: int, limit: float, pace: float
) -> tuple[Task, ...]:
    """Return what makes the attacks on the honest server and on both manipulations, each by itself."""
    batch = honest.protocol.batch
    imprint, fishing = _plans(batch)
    unknown = _skipped(imprint, "not-applicable", "attacked at the same time")
    case = _Case(context=honest, observed=(), gallery=gallery, steps=steps, limit=limit, display=Silent())

    @counting()
    def ahead(measure: Callable[[_Case], object]) -> None:
        with suppress(*_DEFECTS):  # met and told when it is measured
            measure(replace(case, observed=observe_probes(honest, (probes[0], probes[-1]))))

    return (
        Task(run=partial(ahead, _honest), seconds=steps * batch * pace),
        Task(run=partial(ahead, lambda case: _fishing(fishing, case, unknown)), seconds=2.0 * steps * pace),
        Task(run=partial(ahead, lambda case: _imprint(imprint, case, unknown))),
    )


def _one_gradient(context: Context) -> Context:
    """Return the set-up in which clients send one gradient of a batch large enough to hide in."""
    batch = context.protocol.batch if context.protocol.batch > 1 else _BATCH
    protocol = replace(context.protocol, algorithm="FedSGD", batch=batch, send_buffers=False)
    return replace(context, protocol=protocol, client=context.client.under(protocol))


def _plans(batch: int) -> tuple[Manipulation, ...]:
    clips = f"{batch} clips"
    return (
        Manipulation(
            name="imprint",
            change=f"a Linear layer with ReLU is planted before the model; the rest works as before; {clips} an update",
            batch=batch,
            attack=ImprintInversion(),
        ),
        Manipulation(
            name="fishing",
            change=f"the head gets other values, so that one clip of {clips} makes nearly the whole update",
            batch=batch,
            attack=FishingInversion(),
        ),
    )


def _imprint(plan: Manipulation, case: _Case, base: Reconstruction | Skipped) -> Manipulation:
    context, shape = case.context, case.context.input.clip_shape
    pixels = shape[0] * shape[1] * shape[2] * shape[3]
    bins = min(max(_LEAST_BINS, _BINS_A_CLIP * plan.batch), _MOST_WEIGHTS // pixels)
    if bins < 2 * plan.batch:
        reason = f"a clip of {pixels} numbers leaves room for {bins} bins only"
        return replace(plan, skipped=_skipped(plan, "not-applicable", reason))
    seed = unit_seed(context.seed, "malicious", plan.name)
    made = measurement(shape, bins, seed)
    server = _handing_out(context, imprinted(context.target, made.direction, made.thresholds, seed))
    truth, other = observe_probes(server, [o.probe for o in case.observed])
    checks = check_model(server.target, server.client, truth.clips, truth.labels, _CHECK_SECONDS)
    plan = replace(plan, checks=checks)
    with case.display.unit("malicious server: imprint", 0.0):
        found, null = (_attack(plan.attack, server, o, case, seed) for o in (truth, other))
    if isinstance(found, Skipped):
        return replace(plan, skipped=found)
    clips = found.clips.cpu()
    order = pair(truth.clips.cpu(), clips)
    exact = sum(float(psnr(t.cpu(), clips[i])) >= _EXACT_DB for t, i in zip(truth.clips, order, strict=True))
    return replace(
        plan,
        exact=exact,
        certified=int(found.certificate["clips_certified"]),
        score=score_clip(truth.probe, clips[order[0]], case.gallery),
        null=None if isinstance(null, Skipped) else _paired(truth, null.clips, 0, case.gallery),
        honest=None if isinstance(base, Skipped) else _paired(truth, base.clips, 0, case.gallery),
        steps=found.steps,
    )


def _fishing(plan: Manipulation, case: _Case, base: Reconstruction | Skipped) -> Manipulation:
    first = _cast(case, case.observed[0])
    if isinstance(first, str):
        return replace(plan, skipped=_skipped(plan, "not-applicable", first))
    server, truth, rounds = first
    checks = check_model(server.target, server.client, truth.clips, truth.labels, _CHECK_SECONDS)
    k, share = _caught_clip(server, truth)
    plan = replace(
        plan, checks=checks, rounds=rounds, share=share, honest_share=_share(case.context, case.observed[0], k)
    )
    if case.steps < LEAST_STEPS:
        return replace(plan, skipped=_skipped(plan, "out-of-budget", f"only {case.steps} steps fit into its share"))
    with case.display.unit("malicious server: fishing", 0.0):
        found = _attack(plan.attack, server, truth, case, unit_seed(case.context.seed, "malicious", plan.name))
    if isinstance(found, Skipped):
        return replace(plan, skipped=found)
    return replace(
        plan,
        score=_direct(truth, found.clips, k, case.gallery),
        null=_fishing_null(plan, case, truth, k),
        honest=None if isinstance(base, Skipped) else _paired(truth, base.clips, k, case.gallery),
        steps=found.steps,
    )


def _fishing_null(plan: Manipulation, case: _Case, truth: Observed, k: int) -> ClipScore | None:
    """Fish in another client's update, as well as there, and score against this one's clip."""
    other = _cast(case, case.observed[1])
    if isinstance(other, str):
        return None
    server, observed, _ = other
    with case.display.unit("malicious server: fishing, null", 0.0):
        found = _attack(plan.attack, server, observed, case, unit_seed(case.context.seed, "malicious", "null"))
    return None if isinstance(found, Skipped) else _direct(truth, found.clips, k, case.gallery)


def _cast(case: _Case, observed: Observed) -> tuple[Context, Observed, int] | str:
    """Bait the head for the class of the audited clip, and answer with the baited set-up, what the client sent, rounds.

    The server knows the labels (restored from an honest update, or assumed): a class of one clip needs one round. Of
    several clips of one class the one of lowest feature is separated by bisection over rounds on the same batch.
    """
    context, view = case.context, view_of(case.context, observed)
    label = observed.labels[0]
    if not isinstance(label, int):
        return "only a head of classes under cross-entropy can be baited"
    public = _public(context)
    if Counter(view.knowledge.labels or ())[label] == 1:
        return _answered(context, observed, fish_class(view, label, public), 1)
    low, high, last = -_WIDEST, _WIDEST, "no round was left"
    for rounds in range(1, _MOST_ROUNDS + 1):
        cut = 0.5 * (low + high)
        made = _answered(context, observed, fish_feature(view, label, public, cut, context.seed), rounds)
        if isinstance(made, str):
            return made
        count = caught(view_of(made[0], made[1]))
        if abs(count - 1.0) <= _ONE:
            return made
        low, high = (low, cut) if count > 1.0 else (cut, high)
        last = f"{count:.1f} clips of class {label} were caught in the last of {rounds} rounds; one is needed"
    return last


def _answered(
    context: Context, observed: Observed, hook: Hook | str, rounds: int
) -> tuple[Context, Observed, int] | str:
    if isinstance(hook, str):
        return hook
    server = _handing_out(context, with_values(context.target, hook.values))
    return server, observe_probes(server, (observed.probe,), observed.labels[:1])[0], rounds


def _public(context: Context) -> Clips:
    """Clips that anybody can make; none of a client's scenes is among them."""
    made = [moving_texture(context.input, unit_seed(context.seed, "public", str(i))).clip for i in range(_PUBLIC)]
    return torch.stack(made).to(context.device)


def _handing_out(context: Context, target: Target) -> Context:
    """Return the set-up in which clients train this target: what is planted is trained and sent as well."""
    own = context.target.parameters
    planted = tuple(name for name in target.parameters if name not in own)
    protocol = replace(context.protocol, sent=(*planted, *context.protocol.sent))
    client = LocalClient(target.model, protocol, context.client.loss, target.classes)
    return replace(context, target=target, protocol=protocol, client=client)


def _honest(case: _Case) -> Reconstruction | Skipped:
    """What an honest server gets at the same batch: a closed form if one solves it, else the same descent."""
    view = view_of(case.context, case.observed[0])
    seed = unit_seed(case.context.seed, "malicious", "honest")
    solved = solve(view, case.limit, seed)
    if solved is not None:
        return solved
    with case.display.unit("malicious server: the honest one beside it", 0.0):
        return _attack(GradientMatching(), case.context, case.observed[0], case, seed)


def _attack(attack: Attack, context: Context, observed: Observed, case: _Case, seed: int) -> Reconstruction | Skipped:
    budget = Budget(seconds=math.inf, steps=max(1, case.steps))
    made = run_attack(attack, view_of(context, observed), budget, seed)
    return replace(made, stage="what-if") if isinstance(made, Skipped) else made


def _caught_clip(server: Context, observed: Observed) -> tuple[int, float]:
    """Return which clip of the batch the update is of, and the cosine of its own update with it."""
    shares = [_share(server, observed, k) for k in range(len(observed.clips))]
    return max(range(len(shares)), key=lambda k: shares[k]), max(shares)


def _share(context: Context, observed: Observed, k: int) -> float:
    """Cosine of an update, below the head, with that of its clip k alone; 0 where either is zero."""
    client = context.client_of(observed.probe)
    alone = client(observed.clips[k : k + 1], client.targets(observed.labels[k : k + 1]))
    return _cosine(observed.update, alone, _below_head(context))


def _cosine(update: Update, alone: dict[str, torch.Tensor], names: Sequence[str]) -> float:
    inner = sum(float((update.gradients[n].double() * alone[n].double()).sum()) for n in names)
    norms = [sum(float(g[n].double().square().sum()) for n in names) for g in (update.gradients, alone)]
    return inner / (norms[0] * norms[1]) ** 0.5 if norms[0] * norms[1] > 0.0 else 0.0


def _below_head(context: Context) -> list[str]:
    """Names of what is sent but for tensors with one row a class at the model's end."""
    classes = context.target.classes
    last = next((x for x in reversed(context.target.layers) if x.output_shape and x.output_shape[-1] == classes), None)
    start = len(context.target.layers) if last is None else last.index
    head = {n for layer in context.target.layers if layer.index >= start for n in layer.parameters}
    names = [n for n in context.protocol.sent if n not in head]
    return names or list(context.protocol.sent)


def _truth(observed: Observed, k: int) -> Probe:
    """The audited clip, or one of the textures that share its batch."""
    if k == 0:
        return observed.probe
    clip = observed.clips[k].cpu()
    name = f"{observed.probe.name}, clip {k + 1} of its batch"
    return replace(observed.probe, name=name, clip=clip, native=clip, kind="texture", payload=None, decode=None)


@charged(0.0)  # little, and some of it is remembered
def _paired(observed: Observed, clips: Clips, k: int, gallery: Clip) -> ClipScore:
    order = pair(observed.clips.cpu(), clips.cpu())
    return score_clip(_truth(observed, k), clips[order[k]].cpu(), gallery)


@charged(0.0)
def _direct(observed: Observed, clips: Clips, k: int, gallery: Clip) -> ClipScore:
    return score_clip(_truth(observed, k), clips[0].cpu(), gallery)


def _failed(plan: Manipulation, error: Exception) -> Skipped:
    return _skipped(plan, "failed", (str(error).strip().splitlines() or [type(error).__name__])[0])


def _skipped(plan: Manipulation, because: Because, reason: str) -> Skipped:
    remedy = "give more --max-time" if because == "out-of-budget" else ""
    what = f"malicious server: {plan.name}"
    return Skipped(stage="what-if", what=what, because=because, reason=reason, remedy=remedy)
