"""A positive control in the audited network itself: a clip that its update shows best, planted, sent and attacked."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from auditor.attack import Attack, as_sent, distance
from auditor.exposure import JacobianProducts, grams, leading_modes
from auditor.federated import LocalClient, batch_labels, observe
from auditor.pipeline.context import Context, Observed, unit_seed, view_of, without_defences
from auditor.pipeline.deep.memory import available_bytes, too_large_to_expose, too_large_to_match
from auditor.pipeline.progress import Display
from auditor.pipeline.run_attack import run_attack
from auditor.probe import moving_texture
from auditor.records import Budget, Clip, Clips, Outcome, Probe, Reconstruction, Skipped, Target, deviation_of
from auditor.results.audit import Control

KIND = "own net"
NAME = "a planted clip in the audited network"
# Of the planted mode's amplitude, which grey and noise hold nothing of. Searches that work end at 83% to 157%, 36 of 39
# within 15% (docs/measured.md). The other modes are not asked for: many updates leave them open.
LEAST, MOST = 0.5, 2.0
# Relative change of the update from grey to the planted clip below which it is not asked for: searches reach a relative
# error of 1e-1 to 1e-2. Measured: 0.08 to 0.98 on nets known to leak, 0.001 where ten numbers of a head are sent.
SHOWN = 3e-2
# Times that the planted clip's change of the update must stand out of the noise that defences add, as a matched filter
# sees it: its amplitude is then told to 10%, and a search has to find it among everything else.
STANDS_OUT = 10.0
# Among so many modes of clips one is chosen: brightness, colour, slow changes in space and time.
_MODES = 16
# Largest deviation from grey of the planted clip: far from the limits of a pixel, near enough to grey for updates to
# follow it almost linearly.
_SWING = 0.2
# Searches that decide, strongest first. Steps are enough for one mode (measured over 39 nets, docs/measured.md).
_SEARCHES = ("layer-recursion", "least-squares-matching", "gradient-matching")
_STEPS = 60
# A step of matching takes about nine passes forward; what would take more than a minute on one core is left out.
_MOST_OPERATIONS = 4e11
_PASSES = 9
_CEILING = 60.0


def own_net_control(context: Context, observed: Observed, attacks: Sequence[Attack], display: Display) -> Control:
    """Plant a clip in the audited network, as its own clients would send it, and attack its update.

    The clip is grey but for one mode of clips, that which the update shows best: the first singular vector of the
    gradient's Jacobian at grey, among 16 smooth modes, every parameter weighed alike. Whoever follows the update has
    to find it; the first attack that applies is tried, closed forms before searches. What a failure means is told by
    `doubt`: a clip that was recovered from this network stays recovered.

    The update is sent under the defences of the protocol. Where these hide even the planted clip, what is tried is the
    update without them: whether attacks follow in this network at all.
    """
    reason = not_tried(context)
    if reason is not None:
        return _control(None, f"not run: {reason}", "")
    without = ""
    with display.unit(NAME, 5.0):
        planted = _planted(context, observed)
        if planted is None and context.client.defences:
            without = ", without the defences, which hide it"
            context = without_defences(context)
            planted = _planted(context, observed)
        if planted is None:
            return _control(None, "not run: no smooth change of a grey clip shows in the update", "")
        made = _attacked(context, planted, attacks)
    if made is None:
        return _control(None, f"not run: no attack of the preset applies{without}", "")
    share = min((_share(clip, planted.probe.clip) for clip in made.clips.cpu()), key=lambda found: abs(found - 1.0))
    found = LEAST <= share <= MOST
    if not found and made.seconds >= 0.9 * _CEILING:
        return _control(None, f"not run: {_CEILING:.0f} s did not hold {_STEPS} steps", made.attack)
    return _control(found, f"{share:.0%} of what was planted{without}", made.attack)


def not_tried(context: Context) -> str | None:
    """Say in one clause why nothing is planted in this network, or None where it is."""
    return _without_slopes(context.target) or _too_large(context)


def doubt(controls: Sequence[Control]) -> tuple[str, ...]:
    """Return why attacks that found nothing in this network show little; nothing where the control held."""
    failed = [c for c in controls if c.kind == KIND and c.passed is False]
    return tuple(f"{c.attack} did not find {NAME} ({c.measured}): that it finds no other means nothing" for c in failed)


def _control(passed: bool | None, measured: str, attack: str) -> Control:
    return Control(
        name=NAME,
        kind=KIND,
        passed=passed,
        measured=measured,
        expected=f"{LEAST:.0%} to {MOST:.0%} of what was planted",
        why="a search that misses in this very network what its update shows best says nothing by finding no clip",
        attack=attack or None,
    )


def _share(clip: Clip, planted: Clip) -> float:
    """Return how much of the planted deviation from grey a clip shows: 1 for all of it, 0 for grey."""
    pattern = planted - 0.5
    return float(((clip.nan_to_num(0.5) - 0.5) * pattern).sum() / pattern.square().sum())


def _without_slopes(target: Target) -> str | None:
    if target.fidelity.blind:
        return "derivatives do not see the clip"
    return "second derivatives are missing" if target.fidelity.double_backward is False else None


def _too_large(context: Context) -> str | None:
    limit, step = available_bytes(context.device), context.target.step
    why = too_large_to_match(context, limit)
    if why is not None:
        return why
    if too_large_to_expose(context, limit) is not None:
        return "memory does not hold products with the gradient's Jacobian"
    clips = context.protocol.batch * max(1, context.protocol.steps)
    if step is not None and step.operations * clips * _PASSES * _STEPS > _MOST_OPERATIONS:
        return f"{_STEPS} steps of this network compute too much"
    return None


def _planted(context: Context, like: Observed) -> Observed | None:
    """Return a client whose whole batch is the planted clip; None where its update hardly shows it.

    In a batch of different clips a search may mistake one for another: what is tried here is whether it follows at all.
    Batch statistics of equal grey clips have no spread to divide by, so there the others are as those of `like`.
    """
    spec = context.input
    labels = batch_labels(
        like.labels[0],
        context.protocol.batch,
        context.target.classes,
        distinct=context.protocol.labels == "distinct",
        kind=context.client.loss.kind,
    )
    planted = torch.ones_like(like.clips[:, :1, :1, :1, :1])
    if context.protocol.bn == "train":
        planted[1:] = 0.0
    grey = torch.where(planted > 0.0, 0.5, like.clips)
    probe = moving_texture(spec, unit_seed(context.seed, NAME))
    client = context.client_of(probe)
    pattern = _shown_best(client, grey, planted, client.targets(labels))
    if pattern is None:
        return None
    clips = (grey + planted * (_SWING * pattern / pattern.abs().max())).detach()
    truth = clips[0].cpu()
    probe = Probe(name=NAME, kind="texture", clip=truth, native=truth, sha256="", source="made for this network")
    update = observe(client, clips, client.targets(labels))
    if not _shows(client, grey, clips, client.targets(labels), update.gradients):
        return None
    known = Skipped(stage="invert", what="labels", because="not-applicable", reason="the control's labels are known")
    return Observed(probe=probe, clips=clips, labels=labels, update=update, guess=known)


def _shows(client: LocalClient, grey: Clips, planted: Clips, labels: Tensor, sent: Mapping[str, Tensor]) -> bool:
    """Tell whether the change from grey to the planted clip is much of the update, and more than noise would be."""
    before, after = (as_sent(client.defences, client(x, labels), sent) for x in (grey, planted))
    if distance(before, after) < SHOWN:
        return False
    deviation = deviation_of(client.defences, sent, client.protocol.clients)
    if not deviation:
        return True
    out = [float((after[n] - before[n]).double().square().sum()) / d**2 for n, d in deviation.items() if d > 0.0]
    return not out or sum(out) ** 0.5 >= STANDS_OUT


def _shown_best(client: LocalClient, clips: Clips, planted: Tensor, labels: Tensor) -> Clip | None:
    """Return the mode that moves the update most, in all planted clips at once; None where none moves it."""
    shape = tuple(clips.shape[1:])
    basis = leading_modes((shape[0], shape[1], shape[2], shape[3]), _MODES, 1.0).basis
    products = JacobianProducts(client, clips, labels)
    directions = [mode.to(clips) * planted for mode in basis]
    sent = [name for name, norm in products.norms.items() if norm > 0.0]
    each = grams(products, directions, {name: (name,) for name in sent}, lambda fraction: None)
    whole = torch.stack([each[name] / products.norms[name] ** 2 for name in sent]).sum(0) if sent else None
    if whole is None or not bool(torch.isfinite(whole).all()) or not bool(whole.any()):
        return None
    mixed = torch.linalg.eigh(whole)[1][:, -1]
    return torch.einsum("k,ktchw->tchw", mixed.float(), basis).to(clips)


def _attacked(context: Context, planted: Observed, attacks: Sequence[Attack]) -> Reconstruction | None:
    """Return what the first attack makes of the update that applies: a closed form that solves it, else a search."""
    view = view_of(context, planted)
    for attack in (a for a in attacks if a.closed_form):
        made = run_attack(attack, view, Budget(seconds=_CEILING, steps=1), seed=0)
        if isinstance(made, Reconstruction) and made.outcome is Outcome.SOLVED:
            return made
    searches = {a.name: a for a in attacks if a.name in _SEARCHES}
    for name in _SEARCHES:
        if name in searches:
            made = run_attack(searches[name], view, Budget(seconds=_CEILING, steps=_STEPS), seed=0)
            if isinstance(made, Reconstruction):
                return made
    return None
