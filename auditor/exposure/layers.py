"""Mode exposure: the PSNR that a linear attacker with a natural-clip prior is predicted to reach, layer by layer."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.errors import AuditError
from auditor.exposure.jacobian import JacobianProducts, Seen, grams, seconds_per_product
from auditor.exposure.modes import LeadingModes, leading_modes
from auditor.records import Client, Clips, Clock, Exposure, Layer, Skipped, counting

# Optimisers reach a relative error of 1e-1 to 1e-2 of the gradient's root mean square; 3e-2 lies between.
OPTIMISER_NOISE = 3e-2
# float32 keeps 24 bits; sums inside a gradient lose a few.
ROUNDING = 1e-6
_NOTHING: Mapping[str, float] = {}
COUNTS = (256, 128, 64, 32, 16)


@dataclass(frozen=True)
class Exposed:
    """Exposure of all that is sent and of each layer, by layer index; `modes` and `coverage` say how fine."""

    all: Exposure
    layers: Mapping[int, Exposure]
    modes: int
    coverage: float
    seconds: float


@dataclass(frozen=True)
class Noise:
    """Mean square of a layer's gradient, which noise is told relative to, and of noise that is there in any case."""

    signal: float
    floor: float


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
    counts: Sequence[int] = COUNTS,
) -> Exposed | Skipped:
    """Predict what the update determines of the clips, in as many modes as `seconds` of work allow.

    With V the leading prior modes, D their variances and J_l the Jacobian of layer l's gradient, the posterior of a
    linear-Gaussian attacker who sees g_l with noise sigma_l per entry has

        MSE = outside variance + tr((D^-1 + V^T J_l^T J_l V / sigma_l^2)^-1)   per clip,

    (Bayesian linear inversion; derived for this project). Everything is local to these clips: an upper side, not a
    promise about others. All clips of a batch are unknown at once.

    With `weights`, the public ones by name, the update is taken for a difference of weights in float32 (FedAvg): each
    local step rounds them, and that noise is added. It may be much of a small update.

    `seen` is what defences leave of a gradient, as an attacker simulates it, and `deviation` that of the noise which
    they add to an entry, by parameter and in the gradient's units.

    `counts` are the numbers of modes to choose from, the largest first. What lies outside the modes caps the
    prediction (`cap`), so that layers which determine all of them cannot be told apart.
    """
    clock = Clock(seconds)
    batch, shape = len(clips), tuple(clips.shape[1:])
    try:
        products = JacobianProducts(client, clips, labels, seen)
        trial = leading_modes((shape[0], shape[1], shape[2], shape[3]), 1, pixel_variance)
        pace = seconds_per_product(products, _lift(trial.basis[0], 0, clips))
    except torch.OutOfMemoryError as error:
        raise AuditError(
            "out of memory while measuring exposure", "use a smaller --input-shape or --device cpu"
        ) from error
    fitting = [k for k in counts if k * batch * pace <= seconds - clock.used]
    if not fitting:
        return Skipped(
            stage="expose",
            what="mode exposure",
            because="out-of-budget",
            reason=f"one Jacobian product takes {pace:.2g} s "
            f"and even {counts[-1]} modes exceed the {max(0.0, seconds):.0f} s share",
            remedy="give more --max-time",
        )
    modes = leading_modes((shape[0], shape[1], shape[2], shape[3]), fitting[0], pixel_variance)
    directions = [_lift(mode, b, clips) for b in range(batch) for mode in modes.basis]
    groups = {str(layer.index): [n for n in layer.parameters if n in products.norms] for layer in layers}
    gram = grams(products, directions, groups, progress)
    per_layer = {}
    noise = {
        g: Noise(
            signal=_mean_square(products, names),
            floor=_added(products, names, deviation)
            + (0.0 if weights is None else client.protocol.steps * _rounding([weights[n] for n in names])),
        )
        for g, names in groups.items()
        if names
    }
    for group in noise:
        per_layer[int(group)] = _exposure({group: gram[group]}, noise, modes, batch, shape)
    return Exposed(
        all=_exposure({g: gram[g] for g in noise}, noise, modes, batch, shape),
        layers=per_layer,
        modes=len(modes.basis),
        coverage=modes.coverage,
        seconds=clock.used,
    )


def _lift(mode: Tensor, index: int, clips: Clips) -> Clips:
    direction = torch.zeros_like(clips)
    direction[index] = mode.to(clips)
    return direction


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


def _exposure(
    gram: Mapping[str, Tensor], noise: Mapping[str, Noise], modes: LeadingModes, batch: int, shape: tuple[int, ...]
) -> Exposure:
    pixels = math.prod(shape)
    variance = modes.variance.double().repeat(batch)
    held = float(variance.sum())
    prior = (held / batch + modes.outside) / pixels
    left = _posterior(gram, noise, variance, OPTIMISER_NOISE)
    return Exposure(
        psnr=_psnr(left / batch, modes.outside, pixels),
        ceiling=_psnr(_posterior(gram, noise, variance, ROUNDING) / batch, modes.outside, pixels),
        prior=-10.0 * math.log10(prior),
        sigma=OPTIMISER_NOISE,
        cap=_psnr(0.0, modes.outside, pixels),
        determined=1.0 - min(1.0, left / held),
    )


def _posterior(gram: Mapping[str, Tensor], noise: Mapping[str, Noise], variance: Tensor, sigma: float) -> float:
    """tr((D^-1 + sum_l G_l / sigma_l^2)^-1), through the symmetric form D^1/2 (I + D^1/2 G D^1/2)^-1 D^1/2."""
    root = variance.sqrt()
    information = torch.zeros(len(variance), len(variance), dtype=torch.float64)
    for group, matrix in gram.items():
        if noise[group].signal > 0.0:
            information += matrix / (sigma**2 * noise[group].signal + noise[group].floor)
    scaled = root[:, None] * information * root[None]
    values, vectors = torch.linalg.eigh(0.5 * (scaled + scaled.T))
    shrink = 1.0 / (1.0 + values.clamp(min=0.0))
    return float(((vectors * root[:, None]).square() * shrink[None]).sum())


def _psnr(inside: float, outside: float, pixels: int) -> float:
    return -10.0 * math.log10(max((inside + outside) / pixels, 1e-12))
