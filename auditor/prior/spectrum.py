"""How much clips vary in each space-time cosine mode: a power law whose numbers are read off a clip."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

# Variance of a clip's mean brightness and of its mean colours about mid grey.
_MEAN, _MEAN_COLOUR = 0.02, 0.002
_FLOOR = 1e-9


@dataclass(frozen=True)
class Spectrum:
    """Variance of the modes: level (corner^2 + fh^2 + fw^2 + (speed ft)^2)^-slope (1 + (ft / still)^2)^-moving.

    Frequencies are in cycles per pixel and per frame. Space and time do not separate: edges that move have high
    frequencies in both (after Dong & Atick 1995, statistics of natural time-varying images). The defaults fit seven
    clips of five scenes at 8x32x32; fits that leave a scene out predict its modes nearly as well.

    Attributes
    ----------
    parameters
        Natural logarithms: level of brightness and of the two opponent colours, corner, speed, slope, moving, still.
    """

    parameters: tuple[float, ...] = (-7.253, -9.93, -11.502, -1.882, -0.388, 0.905, -1.537, -7.278)

    def variance(self, clip_shape: tuple[int, int, int, int]) -> Float[Tensor, "frame channel height width"]:
        """Return the variance of every mode, in float64."""
        frequencies = _frequencies(clip_shape)
        made = _law(torch.tensor(self.parameters, dtype=torch.float64), *frequencies)
        count = clip_shape[0] * clip_shape[1] * clip_shape[2] * clip_shape[3]
        made[0, 0, 0, 0] += count * _MEAN
        made[0, 1:, 0, 0] += count * _MEAN_COLOUR
        return made

    def fitted(self, power: Float[Tensor, "frame channel height width"]) -> "Spectrum":
        """Return the spectrum under which normal modes of this mean power are likeliest, from this one on.

        Modes are pooled by frame frequency, colour and rings of spatial frequency. Constant modes are left out.
        """
        shape = tuple(power.shape)
        waves = _frequencies((shape[0], shape[1], shape[2], shape[3]))
        t, c, s = (f.to(power.device).expand(shape).flatten() for f in waves)
        group = _rings(power).to(power.device)
        bins = int(group.max()) + 1

        def pooled(value: Tensor) -> Tensor:
            # A few numbers are left, whose fit takes hundreds of small steps: they are taken on the processor.
            return torch.zeros(bins, dtype=torch.float64).index_add_(0, group, value.double()).cpu()

        count = pooled(torch.ones_like(t))
        mean = [pooled(value) / count for value in (power.flatten(), t, c, s)]
        inside = (mean[1] > 0) | (mean[3] > 0)
        observed, t, c, s, count = (value[inside] for value in (*mean, count))
        start = torch.tensor(self.parameters, dtype=torch.float64, device="cpu")
        free = start.clone().requires_grad_(True)
        solver = torch.optim.LBFGS([free], max_iter=100, line_search_fn="strong_wolfe")

        def misfit() -> Tensor:
            solver.zero_grad()
            variance = _law(free, t, c, s)
            # A weak pull towards the start keeps numbers that the clip does not determine.
            loss = (count * (variance.log() + observed / variance)).sum() / count.sum()
            loss = loss + 1e-3 * (free - start).square().sum()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        solver.step(misfit)  # type: ignore[no-untyped-call]
        found = free.detach()
        return Spectrum(tuple(found.tolist())) if bool(torch.isfinite(found).all()) else self


# What is left of a clip where frames of its scene were taken off: the same law, fitted to seven clips of five scenes
# at 8x32x32 less their first frame held (FROM_ONE), and less their first three interpolated (FROM_SEVERAL).
FROM_ONE = Spectrum((-8.406, -11.118, -12.701, -1.042, -0.511, 1.375, -1.221, -4.999))
FROM_SEVERAL = Spectrum((-9.099, -11.809, -13.378, -0.866, -0.716, 1.511, -0.528, -2.564))


def ring_means(modes: Float[Tensor, "*clip frame channel height width"]) -> Tensor:
    """Return the mean over all modes of the same frame frequency, colour and ring of spatial frequency, for each mode.

    What shifts of a clip leave alone is nearly the same within such a group. Each clip has its own means.
    """
    clips = modes.reshape(-1, *modes.shape[-4:])
    group = _rings(clips[0]).to(modes.device)
    flat = clips.flatten(1)
    count = torch.bincount(group).to(flat)
    total = flat.new_zeros(len(flat), len(count)).index_add_(1, group, flat)
    return (total / count)[:, group].view(modes.shape)


def _rings(modes: Float[Tensor, "frame channel height width"]) -> Tensor:
    """Number the groups of modes of one frame frequency, colour and ring of spatial frequency."""
    shape = tuple(modes.shape)
    t, c, s = (f.expand(shape).flatten() for f in _frequencies((shape[0], shape[1], shape[2], shape[3])))
    rings = (s.sqrt() * 2.0 * max(shape[2:])).round().long()
    where = (t * 2.0 * shape[0]).round().long() * (shape[1] * 4 * max(shape[2:])) + c.long() * 4 * max(shape[2:])
    return torch.unique(where + rings, return_inverse=True)[1]


def _frequencies(clip_shape: tuple[int, int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return frame frequency, colour index and squared spatial frequency, each broadcastable to the modes."""
    t, c, h, w = (torch.arange(n, dtype=torch.float64) for n in clip_shape)
    space = (h / (2 * len(h))).square()[:, None] + (w / (2 * len(w))).square()[None]
    return (t / (2 * len(t)))[:, None, None, None], c[None, :, None, None], space[None, None]


def _law(parameters: Tensor, t: Tensor, c: Tensor, space: Tensor) -> Tensor:
    level = parameters[:3][c.long().clamp(max=2)].exp()
    corner, speed, slope, moving, still = parameters[3:].exp()
    return level * (corner**2 + space + (speed * t) ** 2) ** -slope * (1 + (t / still) ** 2) ** -moving + _FLOOR
