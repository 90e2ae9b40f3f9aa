"""Whether a forward pass rounds the clip or cuts its gradient, and whether derivatives can be taken through that."""

from collections.abc import Mapping
from dataclasses import field

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.model.straight_through import CutsMet
from auditor.model.video import VideoModel
from auditor.records import record
from auditor.text import printable

SHOWN = 3
# Values pass unchanged and gradients are computed by the same operations: what differs more is another function.
SAME = 1e-5
BETWEEN = (
    "Forward cuts the gradient (torch.no_grad, detach, NumPy) between parts that both train: what an update tells of "
    "the clip by that way has no slope. Attacks and exposure that follow slopes see the rest only, though an update "
    "may hold the clip."
)


@record
class SeenThrough:
    """A model whose derivatives go through what forward cuts, where that changes nothing of what clients send.

    Attributes
    ----------
    frozen
        Parameters that no client trains, as forward cuts their gradient.
    note
        What is to be told of that; empty where the model is as it was.
    blind
        What derivatives of an update leave out, as in `records.Fidelity`: it depends on the clip by a way that forward
        cuts, and that cannot be opened without changing the update.
    logits
        What the clip got as forward stands.
    """

    model: VideoModel
    logits: Tensor
    frozen: tuple[str, ...] = field(default=())
    note: str = ""
    blind: tuple[str, ...] = ()


def seen_through(model: VideoModel, clip: Float[Tensor, "1 frame channel height width"]) -> SeenThrough:
    """Return the model with slopes through roundings, `torch.no_grad` and `detach`, or as it was.

    Parameters that forward reads without their gradient are frozen, whether or not pixels gain a slope.

    Whoever holds the model can compute through them, so an attack does. The gradients that clients send have to stay
    the same: where they do not (truncated backpropagation through time, a stop-gradient between two branches), and
    where no pixel gains a slope, the model is left as it was.
    """
    with torch.no_grad(), CutsMet() as cuts:
        logits = model(clip)
    if not (cuts.met or model.leaves_torch):
        return SeenThrough(model=model, logits=logits)
    through = model.over(model.network)
    through.sees_through = True
    try:
        sent, opened = _sent(model, clip), _slopes(through, clip)
    except Exception:  # noqa: BLE001 - a user's forward may insist on whole numbers, where slopes need floats
        return SeenThrough(model=model, logits=logits)
    if opened is None:
        return SeenThrough(model=model, logits=logits)
    gains = _gains(sent, opened)
    frozen = tuple(name for name, slope in opened.parameters.items() if _moves(slope) and not _sends(sent, name))
    if not _same_updates(sent, opened, frozen):
        return SeenThrough(
            model=model, logits=logits, blind=(BETWEEN,) if gains and (cuts.cut or model.leaves_torch) else ()
        )
    if not gains and not frozen:
        return SeenThrough(model=model, logits=logits)
    note = _note(frozen, len(opened.parameters))
    return SeenThrough(model=through if gains else model, logits=logits, frozen=frozen, note=note)


@record
class Closed:
    """Parameters that a forward pass closed to gradients, and a sentence about them."""

    names: tuple[str, ...] = ()
    note: str = ""


def closed_by_forward(parameters: Mapping[str, Tensor]) -> Closed:
    """Return which of a network's parameters are closed to gradients after a pass; before it all were open."""
    floats = {name: value for name, value in parameters.items() if value.is_floating_point()}
    names = tuple(name for name, value in floats.items() if not value.requires_grad)
    if not names:
        return Closed()
    return Closed(
        names=names,
        note=f"Forward itself closes {len(names)} of {len(floats)} parameters to gradients (requires_grad_(False)): "
        f"{_listed(names)}. They are not trained and not sent.",
    )


@record
class _Slopes:
    logits: Tensor
    clip: Tensor
    parameters: dict[str, Tensor | None]


def _sent(model: VideoModel, clip: Tensor) -> _Slopes | None:
    """Return what clients compute, and the slopes by pixels where torch has them (of a division in whole numbers not).

    None where there is nothing to send.
    """
    try:
        return _slopes(model, clip)
    except RuntimeError:
        return _slopes(model, clip, pixels=False)


def _slopes(model: VideoModel, clip: Tensor, *, pixels: bool = True) -> _Slopes | None:
    """Return the derivatives of a curved function of the logits; None where they have no slope at all."""
    clip = clip.clone().requires_grad_(pixels)
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    with torch.enable_grad():
        logits = model(clip)
    if not logits.requires_grad:
        return None
    loss = torch.nn.functional.softplus(logits).sum()
    slopes = torch.autograd.grad(loss, [*parameters.values(), *([clip] if pixels else [])], allow_unused=True)
    by_pixel = slopes[-1] if pixels and slopes[-1] is not None else torch.zeros_like(clip)
    found: dict[str, Tensor | None] = dict(zip(parameters, slopes[: len(parameters)], strict=True))
    return _Slopes(logits=logits.detach(), clip=by_pixel.detach(), parameters=found)


def _moves(slope: Tensor | None) -> bool:
    return slope is not None and bool(slope.any())


def _sends(slopes: _Slopes | None, name: str) -> bool:
    return slopes is not None and _moves(slopes.parameters[name])


def _gains(sent: _Slopes | None, opened: _Slopes) -> bool:
    """Tell whether pixels gain a slope, or have another one."""
    return bool(opened.clip.any()) and (sent is None or _apart(sent.clip, opened.clip) > SAME)


def _same_updates(sent: _Slopes | None, opened: _Slopes, frozen: tuple[str, ...]) -> bool:
    if sent is None or _apart(sent.logits, opened.logits) > SAME:
        return False
    pairs = [(sent.parameters[name], opened.parameters[name]) for name in opened.parameters if name not in frozen]
    kept = [(a, b) for a, b in pairs if _moves(a) or _moves(b)]
    largest = max((float(a.abs().max()) for a, _ in kept if a is not None), default=0.0)
    return bool(kept) and all(
        a is not None
        and b is not None
        and float((a - b).abs().max()) <= SAME * max(float(a.abs().max()), SAME * largest)
        for a, b in kept
    )


def _apart(first: Tensor, other: Tensor) -> float:
    return float((first - other).abs().max() / other.abs().max().clamp(min=1e-12))


def _note(frozen: tuple[str, ...], parameters: int) -> str:
    if not frozen:
        return (
            "Forward rounds the clip or cuts its gradient before the first layer that trains. Clients send the same "
            "either way, and whoever holds the model computes through it: derivatives here take a rounding for what it "
            "rounds (straight-through, Bengio et al. 2013)."
        )
    return (
        f"Forward cuts the gradient (torch.no_grad, detach, rounding, NumPy) of {len(frozen)} of {parameters} "
        f"parameters: {_listed(frozen)}. Nobody trains or sends them; whoever holds them computes through them, and "
        "so do derivatives here."
    )


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(f"'{printable(name, 60)}'" for name in names[:SHOWN]) + more
