"""Mode exposure: the PSNR that a linear attacker with a natural-clip prior is predicted to reach, layer by layer."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.errors import AuditError
from auditor.exposure.jacobian import JacobianProducts, Seen
from auditor.exposure.sensitivity import ModePrior, Sensitivity
from auditor.records import Client, Clips, Clock, Exposure, Layer, Skipped, counting, repeated, work_of
from auditor.solvers.lanczos import Tridiagonal, lanczos

# Optimisers reach a relative error of 1e-1 to 1e-2 of the gradient's root mean square; 3e-2 lies between.
OPTIMISER_NOISE = 3e-2
# float32 keeps 24 bits; sums inside a gradient lose a few.
ROUNDING = 1e-6
# Products with the Jacobian and its transpose: after 64 the brackets of four small nets were 0.0 to 5.3 dB wide at
# 8x16x16, and of two at 8x32x32 about 5 and 10 dB. One is the work of two modes of before, which measured up to 256.
# With fewer than 4 the lower side is little above no update at all.
MOST_PRODUCTS, LEAST_PRODUCTS = 64, 4
# Layers share four times as many among them: a product of one took 0.23 to 0.26 of the work of one of all (convolutions
# with a flattened head, and a transformer of 17 layers, both at 8x32x32).
_LAYERS, _MOST_OF_A_LAYER = 4, 48
SHARE_OF_A_LAYER = 0.3
# The bracket is closed where its sides are told apart by less than what other random signs change.
CLOSED_DB = 0.3
_NOTHING: Mapping[str, float] = {}


@dataclass(frozen=True)
class Exposed:
    """Exposure of all that is sent and of each layer, by layer index.

    `modes` of a clip were measured, which hold `coverage` of its prior variance: all of them, since `products` with
    the Jacobian and its transpose stand in place of one for every mode.
    """

    all: Exposure
    layers: Mapping[int, Exposure]
    modes: int
    coverage: float
    seconds: float
    products: int = 0


@dataclass(frozen=True)
class Noise:
    """Mean square of a layer's gradient, which noise is told relative to, and of noise that is there in any case."""

    signal: float
    floor: float

    def variance(self, sigma: float) -> float:
        """Return the variance of an entry's noise; infinite where the gradient is zero."""
        return sigma**2 * self.signal + self.floor if self.signal > 0.0 else math.inf


@counting()
def expose(
    client: Client,
    clips: Clips,
    labels: Tensor,
    layers: tuple[Layer, ...],
    pixel_variance: float,
    seconds: float,
    progress: Callable[[float], None] = lambda fraction: None,
    weights: Mapping[str, Tensor] | None = None,
    seen: Seen = dict,
    deviation: Mapping[str, float] = _NOTHING,
    sigma: float = OPTIMISER_NOISE,
    products: int | None = None,
) -> Exposed | Skipped:
    """Predict what the update determines of the clips, by as many products as `seconds` of work allow.

    With D the prior variances of all modes and J_l the Jacobian of layer l's gradient, the posterior of a
    linear-Gaussian attacker who sees g_l with noise sigma_l per entry has

        MSE = tr((D^-1 + sum_l J_l^T J_l / sigma_l^2)^-1)   per clip

    (Bayesian linear inversion). The trace is that of one vector of random signs, and a Lanczos process brackets it:
    `psnr` is the lower side, which a linear estimator reaches that sees as many numbers as there were products, and
    `at_most` the upper one. Both approach the exact value as products grow in number. Everything is local to these
    clips: no promise about others. All clips of a batch are unknown at once.

    With `weights`, the public ones by name, the update is taken for a difference of weights in float32 (FedAvg): each
    local step rounds them, and that noise is added. It may be much of a small update.

    `seen` is what defences leave of a gradient, as an attacker simulates it, and `deviation` that of the noise which
    they add to an entry, by parameter and in the gradient's units; `sigma` is the noise relative to a layer's gradient.

    `products` asks for exactly so many for the whole update, or fewer that close the bracket, and for no layer by
    itself: so that two analyses compare.
    """
    clock = Clock(seconds)
    try:
        jacobian, prior = JacobianProducts(client, clips, labels, seen), ModePrior(clips, pixel_variance)
        start = prior.signs()
        groups = {layer.index: [n for n in layer.parameters if n in jacobian.norms] for layer in layers}
        noise = {
            index: Noise(
                signal=_mean_square(jacobian, names),
                floor=_added(jacobian, names, deviation)
                + (0.0 if weights is None else client.protocol.steps * _rounding([weights[n] for n in names])),
            )
            for index, names in groups.items()
            if names
        }
        of_all = {n: 1.0 / noise[index].variance(sigma) for index in noise for n in groups[index]}
        whole = Sensitivity(jacobian, prior, of_all)
        pace = work_of(lambda: whole(start))
    except torch.OutOfMemoryError as error:
        raise AuditError(
            "out of memory while measuring exposure", "use a smaller --input-shape or --device cpu"
        ) from error
    fitting, least = clock.left / pace, products or LEAST_PRODUCTS
    if fitting < least:
        return _too_long(pace, least, seconds)
    most, each = products_for(len(noise), fitting) if products is None else (products, 0)
    told = _Progress(progress, most + (each * len(noise) if len(noise) > 1 else 0))
    found = _bracketed(whole, start, most, told)
    everything = _exposure(found, list(noise.values()), sigma, prior)
    alone: dict[int, Exposure] = {}
    if len(noise) == 1 and products is None:
        alone = dict.fromkeys(noise, everything)
    elif each:
        for index in noise:
            own = Sensitivity(jacobian, prior, {n: of_all[n] for n in groups[index]})
            alone[index] = _exposure(_bracketed(own, start, each, told), [noise[index]], sigma, prior)
    return Exposed(
        all=everything,
        layers=alone,
        modes=prior.pixels,
        coverage=1.0,
        seconds=clock.used,
        products=len(found.diagonal),
    )


class _Progress:
    """Tells the fraction that is done, of so many products at most."""

    def __init__(self, progress: Callable[[float], None], of: int) -> None:
        self._progress = progress
        self._of = max(1, of)
        self._done = 0

    def __call__(self, products: int = 1) -> None:
        self._done += products
        self._progress(min(1.0, self._done / self._of))


def products_for(layers: int, fitting: float) -> tuple[int, int]:
    """Return how many products the whole update and each layer get where so many of the whole fit.

    The whole comes first: with half of them, and with all where the rest would not do for the layers. 0 where fewer
    than `LEAST_PRODUCTS` fit.
    """
    alone = min(MOST_PRODUCTS, int(fitting)) if fitting >= LEAST_PRODUCTS else 0
    if layers < 2 or not alone:
        return alone, 0
    whole = min(MOST_PRODUCTS, max(LEAST_PRODUCTS, int(fitting / 2)))
    fair = max(LEAST_PRODUCTS, min(_MOST_OF_A_LAYER, _LAYERS * MOST_PRODUCTS // layers))
    each = min(fair, int((fitting - whole) / (layers * SHARE_OF_A_LAYER)))
    return (whole, each) if each >= LEAST_PRODUCTS else (alone, 0)


def _too_long(pace: float, least: int, seconds: float) -> Skipped:
    return Skipped(
        stage="expose",
        what="mode exposure",
        because="out-of-budget",
        reason=f"one product with the Jacobian and its transpose takes {pace:.2g} s "
        f"and {least} of them exceed the {max(0.0, seconds):.0f} s share",
        remedy="give more --max-time",
    )


def _bracketed(operator: Sensitivity, start: Tensor, most: int, told: Callable[[int], None]) -> Tridiagonal:
    """Return what at most so many products say; fewer where both sides of the bracket agree."""
    square = float(start.double().square().sum())
    found = Tridiagonal((), (), square, start.numel())
    for found in lanczos(repeated(operator), start):
        told(1)
        low, high = found.bracket(1.0)
        if len(found.diagonal) == most or high <= low * 10.0 ** (CLOSED_DB / 10.0):
            break
    told(most - len(found.diagonal))
    return found


def _mean_square(products: JacobianProducts, names: list[str]) -> float:
    """Mean square of a layer's gradient entries: noise is told relative to its root."""
    return sum(products.norms[n] ** 2 for n in names) / max(1, sum(products.sizes[n] for n in names))


def _added(products: JacobianProducts, names: list[str], deviation: Mapping[str, float]) -> float:
    """Mean square of the noise that defences add to a layer's entries."""
    total = sum(products.sizes[n] * deviation.get(n, 0.0) ** 2 for n in names)
    return total / max(1, sum(products.sizes[n] for n in names))


def _rounding(weights: Sequence[Tensor]) -> float:
    """Mean square error of rounding weights to float32, uniform within half a unit of their last place."""
    entries = sum(w.numel() for w in weights)
    square = sum(float(w.detach().double().square().sum()) for w in weights)
    return torch.finfo(torch.float32).eps ** 2 / 12.0 * square / max(1, entries)


def _exposure(found: Tridiagonal, noise: Sequence[Noise], sigma: float, prior: ModePrior) -> Exposure:
    pixels = prior.pixels * prior.shape[0]
    least, most = found.bracket(1.0)
    # At rounding every entry is known better, and by no less than the entry that gains least.
    gains = [n.variance(sigma) / n.variance(ROUNDING) for n in noise if n.signal > 0.0]
    finest = min(gains, default=1.0)
    return Exposure(
        psnr=_psnr(most, pixels),
        ceiling=_psnr(min(most, found.bracket(finest)[1]), pixels),
        prior=_psnr(found.square, pixels),
        sigma=sigma,
        determined=1.0 - min(1.0, most / found.square),
        at_most=_psnr(least, pixels),
    )


def _psnr(left: float, pixels: int) -> float:
    return -10.0 * math.log10(max(left / pixels, 1e-12))
