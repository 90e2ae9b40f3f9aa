"""A batch of clips from a Linear layer on pixels, as independent components of its weight's gradient."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.attack.base import Attack, skipped
from auditor.attack.certificate import REPRODUCES, residual
from auditor.attack.closed_form.pixel_map import PixelMap, pixel_map
from auditor.attack.closed_form.relu_batch import low_rank
from auditor.attack.closed_form.spear import labels_by_slope, own_slopes, weight_and_bias
from auditor.records import (
    Budget,
    Checkpoint,
    Clips,
    Clock,
    Label,
    Layer,
    Outcome,
    Reconstruction,
    Skipped,
    Trace,
    View,
)
from auditor.solvers.descent import checkpoint
from auditor.solvers.least_norm import least_norm

# Singular values below this share of the largest are float32 rounding.
_RANK = 1e-6
# Every label is tried on every clip; with more clips that takes longer than the unmixing.
_MOST_CLIPS = 64
# FastICA settles within tens of rounds, or turns about and about.
_ROUNDS = 200
_SETTLED = 1e-9
_RESTARTS = 3
# With a residual above this the components are not the clips, and another random turn may do better.
_FAILED = 0.3
# Labels settle in the first rounds of the fixed point; reading them again costs more than all the rest.
_LABELLED = 4
# Rounds of the fixed point, and how many without progress end it. Below this residual float32 has no more to say.
_REFINED, _PATIENCE = 40, 8
_EXACT = 1e-5


@dataclass(frozen=True, kw_only=True)
class CocktailParty(Attack):
    """Unmix dW = D' X of a Linear layer on pixels, X one clip a row, by independent component analysis.

    The rows of dW are mixtures of the clips. Clips themselves are alike and not independent; differences of
    neighbouring pixels are nearly so, and are mixed by the same matrix, so the components are looked for there. FastICA
    takes the place of the paper's descent. Lengths and signs follow from the bias's gradient, db = D' 1. Works with
    any activation and any width of at least B units, but approximately: clips are only nearly independent.

    What follows is derived for this project. The slopes D that the clips found would have are public knowledge, since
    the net is public, and they depend far less on the clips than on the labels. So the mixing is fitted to the slopes
    simulated, the clips are read off again, and so on: a fixed point, which is exact where it is reached. ReLU's slopes
    jump, and the rounds then come near to it without settling. Rounds and restarts are kept by how well the clips
    reproduce the update, which is what is reported.
    """

    name: str = "cocktail-party"
    title: str = "Independent components of a Linear layer's gradient"
    source: str = (
        "Kariyappa et al. 2022 (arXiv 2209.05578), here on pixel differences by FastICA "
        "(Hyvarinen 1999, IEEE Trans. Neural Networks 10(3))"
    )

    def obstacle(self, view: View) -> str | None:
        """Need several clips, one step, and a Linear layer with as many units that sees each clip as one row."""
        batch, sent = view.update.batch, view.update.gradients
        if batch == 1:
            return "one clip needs no separation; see the closed form of a Linear layer's input"
        if batch > _MOST_CLIPS:
            return f"{batch} clips share the update; no more than {_MOST_CLIPS} are told apart"
        if not view.one_gradient:
            return "the update adds up several local steps, each of which mixes the clips in another way"
        if view.scale is None:
            return "the size of the local step is not known"
        found = [weight_and_bias(view, layer) for layer in _one_row(view)]
        if not found:
            return "no Linear layer sees a clip as a single row"
        pairs = [(weight, bias) for weight, bias in found if weight is not None and bias is not None]
        if not pairs:
            return "no one-row Linear layer with weight and bias is sent"
        if min(sent[pairs[0][0]].shape) < batch:
            return f"the first Linear layer has not as many units, or inputs, as the update has clips, {batch}"
        if not all(bool(torch.isfinite(g).all()) for g in sent.values()):
            return "the update is not finite"
        return None

    def invert(self, view: View, budget: Budget, seed: int) -> Reconstruction | Skipped:
        """Unmix at the first Linear layer that sees pixels, from several random turns."""
        clock = Clock(budget.seconds)
        mixture = _mixture(view)
        if isinstance(mixture, str):
            return skipped(self, mixture)
        runs: list[_Run] = []
        for restart in range(_RESTARTS):
            if runs and (clock.left < 0.0 or runs[-1].objective < _FAILED):
                break
            generator = torch.Generator().manual_seed(seed * _RESTARTS + restart)
            runs.append(self._unmixed(view, mixture, generator, budget, clock))
            budget.progress((restart + 1) / _RESTARTS)
        best = min(runs, key=lambda run: run.objective)
        return Reconstruction(
            attack=self.name,
            clips=best.clips,
            labels=best.labels,
            outcome=best.outcome,
            objective=best.objective,
            certificate={"update_residual": best.objective},
            trace=tuple(best.trace),
            restart_objectives=tuple(run.objective for run in runs),
            steps=best.steps,
            seconds=clock.used,
            seed=seed,
            notes=(f"unmixed at {mixture.layer.name}",),
            checkpoints=tuple(best.checkpoints),
        )

    def _unmixed(
        self, view: View, mixture: "_Mixture", generator: torch.Generator, budget: Budget, clock: Clock
    ) -> "_Run":
        run = _Run()
        rounds = max(1, min(_ROUNDS, budget.steps // 2))
        for step, unmixing, moved in fast_ica(mixture.signals, generator, rounds):
            last = moved < _SETTLED or step == rounds or clock.left < 0.0
            if step & (step - 1) == 0 or last:
                clips, slopes = mixture.unmixed(unmixing)
                labels = labels_by_slope(view, mixture.layer, clips, slopes)
                run.note(step, clock.used, clips, labels, residual(view, clips, labels), budget.checkpoints)
            if last:
                break
        turned = run.steps
        for step in range(turned + 1, min(turned + _REFINED, budget.steps) + 1):
            if clock.left < 0.0:
                break
            fitted = mixture.refined(own_slopes(view, mixture.layer, clips, labels))
            if fitted is None:
                break
            clips, slopes = fitted
            if step <= turned + _LABELLED:
                labels = labels_by_slope(view, mixture.layer, clips, slopes)
            run.note(step, clock.used, clips, labels, residual(view, clips, labels), budget.checkpoints)
            if run.objective < _EXACT or run.idle >= _PATIENCE:
                run.outcome = Outcome.CONVERGED
                break
        if run.objective < REPRODUCES:
            run.outcome = Outcome.SOLVED
        elif not math.isfinite(run.objective):
            run.outcome = Outcome.DIVERGED
        return run


class _Run:
    """The course of one random turn, and the best clips on it by how well they reproduce the update."""

    def __init__(self) -> None:
        self.clips: Clips = torch.empty(0)
        self.labels: tuple[Label, ...] = ()
        self.objective, self.steps, self.idle = math.inf, 0, 0
        self.outcome = Outcome.OUT_OF_BUDGET
        self.trace: list[Trace] = []
        self.checkpoints: list[Checkpoint] = []

    def note(
        self, step: int, seconds: float, clips: Clips, labels: tuple[Label, ...], objective: float, keep: int
    ) -> None:
        """Note one round; of its checkpoints the last `keep` are kept."""
        self.steps, self.idle = step, self.idle + 1
        if not self.trace or objective < self.objective:
            self.idle = 0
            self.clips, self.labels, self.objective = clips, labels, objective
        self.trace.append(Trace(step=step, seconds=seconds, objective=objective))
        self.checkpoints.append(checkpoint(step, seconds, self.objective, self.clips, clips))
        self.checkpoints = self.checkpoints[-keep:] if keep else []


@dataclass(frozen=True)
class _Mixture:
    """dW = left right of rank B, and the differences of neighbouring pixels of the rows of `right`."""

    layer: Layer
    left: Float[Tensor, "unit mixture"]
    right: Float[Tensor, "mixture feature"]
    bias: Float[Tensor, " unit"]
    pixels: PixelMap
    signals: Float[Tensor, "mixture difference"]

    def unmixed(self, rows: Float[Tensor, "row mixture"]) -> tuple[Clips, Float[Tensor, "row unit"]]:
        """Return clips and slopes: X = S^-1 rows right and D' = left rows^-1 S, with lengths S such that db = D' 1."""
        mixing = self.left @ torch.linalg.inv(rows)
        lengths = least_norm(mixing, self.bias[:, None])
        inputs = (rows @ self.right) / torch.where(lengths.abs() > 1e-300, lengths, 1.0)
        return self._clips(inputs), (mixing * lengths[:, 0]).T

    def refined(self, slopes: Float[Tensor, "row unit"]) -> tuple[Clips, Float[Tensor, "row unit"]] | None:
        """Return the clips and slopes of the mixing Q, D' = left Q, nearest to these slopes; None if singular."""
        mixing = least_norm(self.left, slopes.T.nan_to_num())
        inverse, singular = torch.linalg.inv_ex(mixing)
        if int(singular) or not bool(torch.isfinite(inverse).all()):
            return None
        return self._clips(inverse @ self.right), (self.left @ mixing).T

    def _clips(self, inputs: Float[Tensor, "row feature"]) -> Clips:
        return torch.stack([self.pixels.to_clip(row.nan_to_num()) for row in inputs])


def _one_row(view: View) -> list[Layer]:
    return [layer for layer in view.target.layers if layer.kind == "linear" and layer.rows == 1]


def _mixture(view: View) -> _Mixture | str:
    """Return what the first one-row Linear with weight and bias mixes, or why it cannot be unmixed."""
    batch, sent = view.update.batch, view.update.gradients
    for layer in _one_row(view):
        weight, bias = weight_and_bias(view, layer)
        if weight is None or bias is None:
            continue
        dw, db = (sent[n].double() / (view.scale or 1.0) for n in (weight, bias))
        pixels = pixel_map(view.target.model, weight, view.knowledge.clip_shape, dw.device)
        if pixels is None:
            return f"{layer.name} sees features, not pixels"
        dw = dw if dw.shape[1] == pixels.pixel.numel() else dw.T
        if min(dw.shape) < batch:
            return f"{batch} clips are more than the lesser of {layer.name}'s {len(dw)} units and {dw.shape[1]} inputs"
        u, s, vh = low_rank(dw, batch)
        if not float(s[batch - 1]) > _RANK * float(s[0]):
            return f"{layer.name}: the weight's gradient has a rank below {batch}"
        right = vh[:batch]
        signals = _differences(right, pixels)
        # The slightest differences are what is left of clips that agree but for a shift in brightness.
        spread = torch.linalg.svdvals(signals - signals.mean(dim=1, keepdim=True))
        if signals.shape[1] <= batch or not float(spread[-1]) > _RANK * float(spread[0]):
            return f"{layer.name}: its clips differ in fewer than {batch} directions"
        return _Mixture(layer, u[:, :batch] * s[:batch], right, db.reshape(-1), pixels, signals)
    return "no one-row Linear layer with weight and bias is sent"


def fast_ica(
    signals: Float[Tensor, "mixture sample"], generator: torch.Generator, rounds: int
) -> Iterator[tuple[int, Float[Tensor, "row mixture"], float]]:
    """Yield round, unmixing matrix and how far it turned, for independent sources with sparse values.

    Symmetric FastICA with tanh, from a random turn (Hyvarinen 1999, IEEE Trans. Neural Networks 10(3)). The signals
    must be linearly independent. Round 0 is the random turn itself; the distance turned is 1 - |cos| of the row that
    turned most.
    """
    centred = signals - signals.mean(dim=1, keepdim=True)
    u, s, vh = torch.linalg.svd(centred, full_matrices=False)
    whitening = (u / s).T * centred.shape[1] ** 0.5
    white = vh * centred.shape[1] ** 0.5
    start = torch.randn(len(signals), len(signals), generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(start)[0].to(signals)
    yield 0, turn @ whitening, math.inf
    for step in range(1, rounds + 1):
        squashed = (turn @ white).tanh()
        slope = (1.0 - squashed.square()).mean(dim=1, keepdim=True)
        left, _, right = torch.linalg.svd(squashed @ white.T / white.shape[1] - slope * turn)
        before, turn = turn, left @ right
        yield step, turn @ whitening, float((1.0 - (turn * before).sum(dim=1).abs()).abs().max())


def _differences(rows: Float[Tensor, "row feature"], pixels: PixelMap) -> Float[Tensor, "row difference"]:
    """Return what neighbours in height and width differ by; pixels that the layer does not see are zero."""
    kept = pixels.known
    flat = rows.new_zeros(len(rows), math.prod(pixels.clip_shape))
    flat[:, pixels.pixel[kept]] = rows[:, kept] / pixels.scale[kept]
    clips = flat.reshape(-1, *pixels.clip_shape)
    return torch.cat([clips.diff(dim=-1).flatten(1), clips.diff(dim=-2).flatten(1)], dim=1)
