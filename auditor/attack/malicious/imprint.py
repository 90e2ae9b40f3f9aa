"""Clips of a batch, one by one, from a planted Linear layer that sorts them into bins (Robbing the Fed)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.attack.base import Attack, skipped
from auditor.attack.certificate import residual
from auditor.attack.closed_form.pixel_map import pixel_map
from auditor.prior.modes import CosineTransform, mode_variance
from auditor.records import Budget, Clip, Clock, Label, Layer, Outcome, Reconstruction, Skipped, View

# Variance of a pixel of natural clips about mid grey, as in the modes' other uses.
_PIXEL_VARIANCE = 0.06
# Every mode is measured with an amplitude of its prior variance to this power. At 0 windows of one scene fall into one
# bin, at -1/4 (-1/2 would be white) the prior no longer tells the spread of real clips: measured on 64 of the shipped
# candidates and 1024 bins, 57.5 clips are alone in their bin at 0, 59.8 at -1/16, 40.1 at -1/8.
_TILT = -0.0625
# The lowest threshold, in standard deviations: every clip lies above it.
_FLOOR = -30.0
# Rows of a planted layer are copies up to float32 rounding.
_COPIES = 1e-5
_LEAST_BINS = 3
# A difference of two bias gradients below this share of the largest is rounding, not a clip.
_EMPTY = 1e-5
# A clip that is alone in its bin reproduces the bin's slope up to float32 rounding of two sums.
_ALONE = 2e-3


@dataclass(frozen=True)
class Measurement:
    """What a planted layer measures: h(x) = <direction, x - 1/2>, of variance one under the prior, and where bins end.

    `thresholds` ascend; the first lies below every clip.
    """

    direction: Float[Tensor, "frame channel height width"]
    thresholds: Float[Tensor, " bin"]


def measurement(clip_shape: tuple[int, int, int, int], bins: int, seed: int) -> Measurement:
    """Return a random measurement and thresholds at equally likely quantiles of its public distribution.

    The distribution is Gaussian by the analytic prior of natural clips (`auditor.prior.modes`): it has seen no clip.
    Fowl et al. 2022 (arXiv 2110.13057) use quantiles of any such scalar.

    Raises
    ------
    ValueError
        Fewer than three bins.
    """
    if bins < _LEAST_BINS:
        raise ValueError(f"{bins} bins are too few: at least {_LEAST_BINS}")
    variance = mode_variance(clip_shape, _PIXEL_VARIANCE)
    transform = CosineTransform.of(clip_shape, variance)
    noise = torch.randn(1, *clip_shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    # A channel of the cosine transform that the prior calls constant would blow up.
    modes = noise * variance.clamp(min=1e-9 * float(variance.max())).pow(_TILT)
    modes = modes / (modes.square() * variance).sum().sqrt()
    inner = torch.special.ndtri(torch.arange(1, bins, dtype=torch.float64) / bins)
    thresholds = torch.cat([torch.tensor([_FLOOR], dtype=torch.float64), inner])
    return Measurement(direction=transform.clips(modes)[0].float(), thresholds=thresholds.float())


@dataclass(frozen=True)
class _Planted:
    """A layer whose rows are copies of one: units by ascending threshold, and the names of its parameters."""

    layer: Layer
    weight: str
    bias: str
    order: Tensor


@dataclass(frozen=True)
class _Bin:
    """What lies between threshold `index` and the next: the clip if it is one, and its share of the bias gradient."""

    index: int
    clip: Clip
    slope: float


@dataclass(frozen=True, kw_only=True)
class ImprintInversion(Attack):
    """Subtract the gradients of successive units: what is left is the clip between their thresholds.

    Unit i of the planted layer is open for clips with h(x) > t_i and passes the same slope s back as any other, so
    dW_i - dW_(i+1) = sum s x and db_i - db_(i+1) = sum s over the clips with t_i < h(x) <= t_(i+1), and their quotient
    is the clip where there is one.
    """

    name: str = "imprint"
    title: str = "Malicious server: imprinted layer"
    source: str = "Robbing the Fed (Fowl et al. 2022, arXiv 2110.13057)"
    closed_form: bool = True

    def obstacle(self, view: View) -> str | None:
        """Need a layer on the whole clip whose rows are copies with different biases, and one gradient."""
        if view.update.algorithm != "FedSGD":
            return "the update is of local training, not one gradient"
        found = _planted(view)
        return found if isinstance(found, str) else None

    def invert(self, view: View, budget: Budget, seed: int) -> Reconstruction | Skipped:
        """Return as many clips as the batch holds: those certified first, then the largest slopes, then grey."""
        clock = Clock(budget.seconds)
        found = _planted(view)
        if isinstance(found, str):
            return skipped(self, found)
        bins = self._bins(view, found, most=view.update.batch)
        if isinstance(bins, str):
            return skipped(self, bins)
        batch, usual = view.update.batch, view.knowledge.labels or (0,)
        proved = self._proved(view, found, bins, clock)
        order = sorted(range(len(bins)), key=lambda i: proved[i] is None)
        missing = batch - len(bins)
        clips = torch.stack([*(bins[i].clip for i in order), *[torch.full_like(bins[0].clip, 0.5)] * missing])
        labels: list[Label] = [usual[0] if (label := proved[i]) is None else label for i in order]
        labels += [usual[0]] * missing
        certified = sum(label is not None for label in proved)
        off = residual(view, clips, tuple(labels))
        return Reconstruction(
            attack=self.name,
            clips=clips,
            labels=tuple(labels),
            # A clip that alone explains the slope of its bin, with a label, reproduces all that the bin tells.
            outcome=Outcome.SOLVED if certified else Outcome.UNVERIFIED,
            objective=off,
            certificate={
                "clips_certified": float(certified),
                "bins_occupied": float(len(bins)),
                "bins": float(len(found.order)),
                "update_residual": off,
            },
            seconds=clock.used,
            seed=seed,
            notes=(f"{certified} of {batch} clips are certified: each alone explains the slope of its bin",),
        )

    def _bins(self, view: View, found: _Planted, most: int) -> list[_Bin] | str:
        """Return the content of bins that are not empty, those of the largest slopes, in float64."""
        dw, db = view.update.gradients[found.weight], view.update.gradients[found.bias].reshape(-1).double()
        if dw.shape[0] != len(db):
            dw = dw.T
        if not bool(torch.isfinite(dw).all() and torch.isfinite(db).all()):
            return "the gradient of the planted layer is not finite"
        slopes = _steps(db[found.order])
        largest = float(slopes.abs().max())
        if largest == 0.0:
            return "the gradient of the planted layer is zero: nothing behind it depends on it"
        pixels = pixel_map(view.target.model, found.weight, view.knowledge.clip_shape, dw.device)
        if pixels is None:
            return f"{found.layer.name} sees features, not pixels"
        made = []
        for i in (slopes.abs() > _EMPTY * largest).nonzero().flatten().tolist():
            row = dw[found.order[i]].double()
            if i + 1 < len(found.order):
                row = row - dw[found.order[i + 1]].double()
            made.append(_Bin(index=i, clip=pixels.to_clip(row / slopes[i]), slope=float(slopes[i])))
        return sorted(made, key=lambda b: -abs(b.slope))[:most]

    def _proved(self, view: View, found: _Planted, bins: list[_Bin], clock: Clock) -> list[Label | None]:
        """Return for every bin the label with which its clip alone explains the bin's slope; None for a mixture.

        The client is simulated on all candidates at once, once a label: each falls into its own bin, so that one
        gradient tells the slopes of all.
        """
        known = view.knowledge.labels
        candidates: tuple[Label, ...] = tuple(dict.fromkeys(known)) if known else tuple(range(view.knowledge.classes))
        proved: list[Label | None] = [None] * len(bins)
        clips = torch.stack([b.clip for b in bins])
        with torch.no_grad():  # one by one: a file that fixes the batch reads a larger one in parts
            opened = [int((view.target.model.inputs_of(found.weight, x[None])[1] > 0.0).sum()) for x in clips]
        # A mixture of slopes of both signs may lie outside its bin, and would spoil another's.
        inside = [i for i, b in enumerate(bins) if opened[i] == b.index + 1]
        for label in candidates:
            if clock.left <= 0.0 or not inside:
                break
            again = view.client(clips[inside], view.client.targets((label,) * len(inside)))[found.bias]
            slopes = _steps(again.reshape(-1).double()[found.order]) * (len(inside) / view.update.batch)
            for i in inside:
                off = abs(float(slopes[bins[i].index]) - bins[i].slope)
                if proved[i] is None and off <= _ALONE * abs(bins[i].slope):
                    proved[i] = label
        return proved


def _steps(slopes: Float[Tensor, " bin"]) -> Float[Tensor, " bin"]:
    return slopes - torch.cat([slopes[1:], slopes.new_zeros(1)])


def _planted(view: View) -> _Planted | str:
    """Find the first Linear layer with one row a clip whose weight rows are copies, and whose biases are not.

    A server knows what it planted; finding it in the public weights costs nothing and needs no name.
    """
    parameters, sent = view.target.parameters, view.update.gradients
    unsent = ""
    for layer in view.target.layers:
        if layer.kind != "linear" or layer.rows != 1:
            continue
        near = [x for x in view.target.layers if 0 <= x.index - layer.index <= 1]
        weight = next((n for n in layer.parameters if parameters[n].ndim == 2), None)
        if weight is None or not bool(torch.isfinite(parameters[weight]).all()):
            continue
        vectors = [n for x in near for n in x.parameters if parameters[n].squeeze().ndim == 1]
        bias = next((n for n in vectors if parameters[n].numel() in parameters[weight].shape), None)
        if bias is None:
            continue
        w, b = parameters[weight].detach(), parameters[bias].detach().reshape(-1)
        if w.shape[0] != len(b) or (w.shape[0] == w.shape[1] and not _copies(w)):
            w = w.T
        if not _copies(w) or len(torch.unique(b)) < len(b):
            continue
        if weight not in sent or bias not in sent:
            unsent = "the planted layer is not sent"
            continue
        return _Planted(layer=layer, weight=weight, bias=bias, order=b.argsort(descending=True))
    return unsent or "no layer is imprinted: none has rows that are copies of one with different biases"


def _copies(weight: Tensor) -> bool:
    scale = float(weight[0].abs().max())
    if len(weight) < _LEAST_BINS or scale == 0.0:
        return False
    return float((weight - weight[:1]).abs().max()) <= _COPIES * scale
