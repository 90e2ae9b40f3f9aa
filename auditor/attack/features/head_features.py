"""What a trained head was given, frame by frame, from the update of the head alone."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.attack.features.frame_span import FrameSpan, frame_spans
from auditor.records import Clips, Clock, Label, SplitModel, View
from auditor.solvers.least_norm import least_norm
from auditor.solvers.levenberg_marquardt import jacobian, minimise

# Rounding of a float32 update leaves about 1e-7 to 1e-6 of the head's gradient unexplained at the true features; local
# minima of a wrong clip leave 1e-2 or more. Measured: benchmarks/README.md.
EXPLAINS = 1e-4
# The rows that a weight reads are the extractor's own features, to float32 rounding.
_SAME = 1e-4
# A direction that moves the equations less than this, relative to the steepest, is free: differences in float64 resolve
# about 1e-8.
_FREE = 1e-6
_STARTS = 12
_STEPS = 40


@dataclass(frozen=True)
class HeadFeatures:
    """Features of every frame, and how well they explain what the head sent.

    Attributes
    ----------
    residual
        ||g(F) - g*|| / ||g*|| over all parameters of the head, each relative to its own norm.
    ordered
        False where the head answers alike for the frames in another order: then the update does not tell the order.
    tries
        Starts that were needed.
    """

    span: FrameSpan
    value: Float[Tensor, "frame feature"]
    residual: float
    ordered: bool
    tries: int


def shared_features(view: View) -> FrameSpan | str:
    """Return the span that `recover_head_features` starts from, or a clause that says why it does not apply."""
    model = view.target.model
    clips = blind_clips(view, 1)
    with torch.no_grad():
        seen = model.features(clips) if isinstance(model, SplitModel) else None
    if seen is None:
        return "the model has no frozen extractor"
    if view.update.batch != 1 or not view.one_gradient:
        return "more than one clip or step shares the update"
    if seen.ndim != 2 or len(seen) != view.knowledge.clip_shape[0]:
        return "the extractor does not give a row of features for every frame"
    span = next(frame_spans(view), None)
    if span is None:
        return "no weight of the head is shared by all frames"
    if not span.complete and not _may_repeat(view, span):
        return f"the head's update tells {span.rank} of the {span.rows} frames' features apart"
    rows, _ = model.inputs_of(span.weight, clips)
    if rows.numel() != seen.numel() or float((rows.reshape(seen.shape) - seen).norm()) > _SAME * float(seen.norm()):
        return "the shared weight reads something else than the extractor's features"
    return span


def _may_repeat(view: View, span: FrameSpan) -> bool:
    """Tell whether a span of too few dimensions may be that of frames that repeat, as in video whose rate was raised.

    Then all features still lie in it. Not where the weight has too few rows for more, or where all frames count alike.
    """
    return 1 < span.rank < min(view.update.gradients[span.weight].shape)


def recover_head_features(view: View, span: FrameSpan, labels: Sequence[Label], seconds: float) -> HeadFeatures:
    """Solve g_head(A V) = g* for A, V the basis of the frames' span (derived for this project).

    A weight that every frame goes through gives the span of the frames' features (`frame_span`), so all that is left to
    know of T features of any width is a matrix A of T times rank numbers. The rest of the head's gradient, which is
    public code on public weights, is far more equations than that. Levenberg-Marquardt in float64 on the head alone,
    from several starts about the features of blind images; the extractor never runs on the way. Deterministic but for
    `seconds`.

    Returns
    -------
    The best fit, whether it explains the update (`EXPLAINS`) or not.
    """
    return _solve(view, labels, span, _typical(view, blind_clips(view)), seconds)


def blind_clips(view: View, count: int = 4) -> Clips:
    """Return clips without content, from noise to smooth shades: what the public model is asked without the update."""
    shape = view.knowledge.clip_shape
    device = next(iter(view.update.gradients.values())).device
    generator = torch.Generator().manual_seed(0)
    clips = []
    for k in range(count):
        size = [min(s, 2 ** (k + 1)) for s in shape[2:]]
        coarse = torch.rand((shape[0], shape[1], *size), generator=generator)
        clips.append(torch.nn.functional.interpolate(coarse, shape[2:], mode="bilinear", align_corners=False))
    return torch.stack(clips).to(device)


def _typical(view: View, clips: Clips) -> Float[Tensor, "row feature"]:
    model = view.target.model
    assert isinstance(model, SplitModel)
    with torch.no_grad():
        features = [model.features(clip[None]) for clip in clips]
    return torch.cat([f for f in features if f is not None]).double()


def _solve(view: View, labels: Sequence[Label], span: FrameSpan, typical: Tensor, seconds: float) -> HeadFeatures:
    clock, residuals = Clock(seconds), _residuals(view, labels, span)
    level = _bias_level(view, span)
    generator = torch.Generator().manual_seed(0)
    best: tuple[float, Tensor] | None = None
    tries = 0
    for tries in range(1, _STARTS + 1):
        start = _level(_start(span, typical, tries, generator), level)
        found, left = minimise(residuals, start, _STEPS, EXPLAINS * 1e-3, lambda: clock.left > 0.0)
        if math.isfinite(left) and (best is None or left < best[0]):
            best = (left, found)
        if (best is not None and best[0] < EXPLAINS) or clock.left < 0.0:
            break
    if best is None:
        return HeadFeatures(span, typical[: span.rows], math.inf, False, tries)
    residual, coordinates = best
    if not span.complete and residual < EXPLAINS and not _determined(residuals, coordinates):
        residual = math.inf
    turned = float(residuals(coordinates.flip(0)).norm())
    return HeadFeatures(span, coordinates @ span.basis, residual, turned > 10.0 * max(residual, EXPLAINS), tries)


def _determined(residuals: Callable[[Tensor], Tensor], coordinates: Tensor) -> bool:
    """Tell whether the solution is locally the only one: no direction leaves every equation as it is."""
    values = torch.linalg.svdvals(jacobian(residuals, coordinates, residuals(coordinates)))
    return float(values[-1]) > _FREE * float(values[0])


def _residuals(view: View, labels: Sequence[Label], span: FrameSpan) -> Callable[[Tensor], Tensor]:
    """Return the relative misfit of every parameter of the head as a function of A; the shared weight's along V."""
    model = view.target.model
    assert isinstance(model, SplitModel)
    device = span.basis.device
    client = view.client.at(
        {name: p.detach().double() for name, p in view.target.parameters.items() if name not in view.target.frozen}
    )
    targets = client.targets(labels)
    clips = torch.zeros((1, *view.knowledge.clip_shape), device=device, dtype=torch.float64)
    observed = {n: g.double() for n, g in view.update.gradients.items() if float(g.abs().max()) > 0.0}
    if view.scale is not None:
        observed = {n: g / view.scale for n, g in observed.items()}
    columns = observed[span.weight].shape[-1] == span.basis.shape[1]

    def seen(name: str, g: Tensor) -> Tensor:
        if name != span.weight:
            return g.reshape(-1)
        return ((g if columns else g.T) @ span.basis.T).reshape(-1)

    wanted = {n: seen(n, g) for n, g in observed.items()}
    scale = {n: 1.0 / (float(w.norm()) * math.sqrt(len(wanted))) for n, w in wanted.items()}

    def residuals(coordinates: Tensor) -> Tensor:
        with model.on_features(coordinates @ span.basis):
            gradients = client(clips, targets)
        return torch.cat([(seen(n, gradients[n].detach()) - w) * scale[n] for n, w in wanted.items()])

    return residuals


def _start(span: FrameSpan, typical: Tensor, tries: int, generator: torch.Generator) -> Tensor:
    """Return features of blind images, projected on the span, each frame's a little different; wilder with each try."""
    mean = typical.mean(0) @ span.basis.T
    spread = float(mean.norm()) * 0.1 * 2.0 ** ((tries - 1) % 4)
    noise = torch.randn((span.rows, span.rank), generator=generator, dtype=torch.float64).to(mean)
    return mean + spread * noise / math.sqrt(span.rank)


def _bias_level(view: View, span: FrameSpan) -> Tensor | None:
    """Return c with f_t' V' c = 1 for every frame, where the shared layer has a bias; None where it has none.

    dW = sum_t delta_t f_t' and db = sum_t delta_t, so dW V' c = db has the solution A c = 1.
    """
    dw = view.update.gradients[span.weight].double()
    along = (dw if dw.shape[-1] == span.basis.shape[1] else dw.T) @ span.basis.T
    for name in span.layer.parameters:
        g = view.update.gradients.get(name)
        if g is None or g.numel() != len(along) or not float(g.abs().max()) > 0.0:
            continue
        c = least_norm(along, g.double().reshape(-1, 1))[:, 0]
        if float((along @ c - g.double().reshape(-1)).norm()) < 1e-3 * float(g.double().norm()):
            return c
    return None


def _level(start: Tensor, c: Tensor | None) -> Tensor:
    """Move every frame's coordinates the shortest way to where `_bias_level` puts them."""
    if c is None:
        return start
    return start + (1.0 - start @ c)[:, None] * c / c.square().sum()
