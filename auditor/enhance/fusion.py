"""Frames of one reconstruction registered to each other, weighed, and fused on a finer grid."""

import time
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from auditor.enhance.bicubic import bicubic
from auditor.enhance.interface import Enhanced, measured
from auditor.enhance.motion import flow, smoothed, warped
from auditor.records import Clip

# Frames on either side that are tried: further ones moved too much or repeat what is known.
_REACH = 2
# Motion is found on frames twice as large, whose gradients are smoother: sub-pixel shifts of half a pixel become whole.
_GRID = 2
# What registration leaves on the exact shipped clips at 32 x 32, root mean square: aliasing, not noise.
_REGISTERED = 0.02
# A frame counts up to about this mean square difference: at least a share of what registration leaves, at most _MOST^2.
# To average, little: what is left of a clean clip is aliasing, which averaging blurs. To fuse, all of it: aliasing is
# the very information (fusing five exact frames shifted by half a pixel).
_AVERAGED, _FUSED, _MOST = 0.1, 1.0, 0.06
# Conjugate gradient steps; the pull towards bicubic makes the system well conditioned.
_STEPS = 8
# Weight of the bicubic frame against a measured pixel, and how much more of it a noisy clip needs: at a noise of 0.04,
# the error of a fused frame was lowest for 0.5 to 1, without noise for 0.02 to 0.1 (shipped clips at 32 x 32).
_PULL, _PULL_OF_NOISE = 0.05, 500.0
# With less weight than this, on average over pixels and neighbours, nothing was registered.
_NOTHING = 0.05
# Gathers and scatters take so many times as long as operations by element.
_GATHERING = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Registered:
    """Frames read at another's place. `weight` is how far each pixel of each pair is believed, 0 to 1.

    `noise` is the root mean square difference that motion does not explain.
    """

    to: Tensor
    of: Tensor
    frames: Float[Tensor, "pair channel height width"]
    weight: Float[Tensor, "pair 1 height width"]
    motion: Float[Tensor, "pair 2 rows columns"]
    noise: float

    @property
    def share(self) -> float:
        """Mean weight: 0 where no frame tells anything of another."""
        return float(self.weight.mean()) if len(self.to) else 0.0


def register(clip: Clip, least: float = _AVERAGED) -> Registered:
    """Bring every frame's neighbours to its place, blind.

    A pixel of another frame counts exp(-d / (2 e)), d the local mean square difference after registration. e is the
    clip's own median of d less what exact clips leave, so that noise widens it and aliasing does not, but at least the
    share `least` of that median.
    """
    frames = len(clip)
    pairs = [(t, k) for t in range(frames) for k in range(frames) if 0 < abs(t - k) <= _REACH]
    to, of = (torch.tensor([pair[i] for pair in pairs], dtype=torch.long, device=clip.device) for i in (0, 1))
    large = _larger(clip, _GRID)
    motion = flow(smoothed(large[to], 1.0), smoothed(large[of], 1.0)) if pairs else large.new_zeros(0, 2, 1, 1)
    moved = _smaller(warped(large[of], motion), _GRID) if pairs else clip[:0]
    apart = smoothed((moved - clip[to]).square().mean(1, keepdim=True), 1.0)
    near = apart[(to - of).abs() == 1]
    left = float(near.median()) if len(near) else 0.0
    admitted = min(max(least * left, left - _REGISTERED**2), _MOST**2)
    weight = torch.exp(-apart / (2 * admitted + 1e-9))
    noise = max(0.0, left - _REGISTERED**2) ** 0.5
    return Registered(to=to, of=of, frames=moved, weight=weight, motion=motion, noise=noise)


def denoised(clip: Clip, found: Registered) -> Clip:
    """Return every frame averaged with its registered neighbours, at the clip's own size."""
    total, count = clip.clone(), torch.ones_like(clip[:, :1])
    total.index_add_(0, found.to, found.weight * found.frames)
    count.index_add_(0, found.to, found.weight)
    return (total / count).clamp(0, 1)


class Fusion:
    """Enlarges a clip by multi-frame super-resolution: no learned prior, nothing but the clip's own frames.

    For each frame x: min ||D x - y||^2 + sum_k w_k ||D W_k x - y_k||^2 + p ||x - bicubic(y)||^2, D the antialiased
    bicubic shrinking, W_k the motion to the neighbour k, w_k how far it was registered, by conjugate gradients
    (iterative back-projection, Irani & Peleg 1991; the weighted form of Farsiu et al., IEEE TIP 2004). p grows with
    the clip's noise. Where nothing can be registered only the first term is left, and the method's name says so.
    """

    name = "multi-frame fusion"

    def __init__(self, scale: int) -> None:
        self.scale = scale

    def __repr__(self) -> str:
        return f"Fusion(scale={self.scale})"

    def __call__(self, clip: Clip) -> Enhanced:
        """Return (frame, channel, scale * height, scale * width) in [0, 1]."""
        start = time.monotonic()
        clip = clip.detach().float().clamp(0, 1)
        found = register(clip, _FUSED)
        base = bicubic(clip, self.scale).clip
        usable = found.share >= _NOTHING
        pull = _PULL + _PULL_OF_NOISE * found.noise**2
        frames = [self._fused(clip, base, t, found, pull, usable) for t in range(len(clip))]
        name = self.name if usable else f"{self.name} (no frame could be registered to another)"
        return Enhanced(
            method=name, scale=self.scale, clip=torch.cat(frames).clamp(0, 1), seconds=time.monotonic() - start
        )

    def seconds_estimate(self, clip_shape: tuple[int, ...]) -> float:
        """Return the work of a clip of (frame, channel, height, width) in reference seconds."""
        return _GATHERING * measured(self, clip_shape, frames=4)

    def _fused(self, clip: Clip, base: Clip, t: int, found: Registered, pull: float, usable: bool) -> Tensor:
        """Solve the normal equations for one frame."""
        own = (found.of == t) & usable  # pairs that bring frame t to the place of another
        motion, weight, seen = found.motion[own], found.weight[own], clip[found.to[own]]
        if len(motion):
            motion = _resized(motion, base.shape[-2:])

        def loss(x: Tensor) -> Tensor:
            value = (_smaller(x, self.scale) - clip[t : t + 1]).square().sum()
            value = value + pull * (x - base[t : t + 1]).square().sum()
            if len(motion):
                there = _smaller(warped(x.expand(len(motion), -1, -1, -1), motion), self.scale)
                value = value + (weight * (there - seen).square()).sum()
            return value

        def slope(x: Tensor) -> Tensor:
            with torch.enable_grad():
                x = x.detach().requires_grad_(True)
                return torch.autograd.grad(loss(x), x)[0]

        x = base[t : t + 1]
        constant = slope(torch.zeros_like(x))
        remainder = -slope(x)
        direction, size = remainder, remainder.square().sum()
        for _ in range(_STEPS):
            if float(size) < 1e-12:
                break
            product = slope(direction) - constant
            length = size / (direction * product).sum()
            x, remainder = x + length * direction, remainder - length * product
            before, size = size, remainder.square().sum()
            direction = remainder + size / before * direction
        return x


def _larger(frames: Tensor, scale: int) -> Tensor:
    side = (frames.shape[-2] * scale, frames.shape[-1] * scale)
    return functional.interpolate(frames, side, mode="bicubic", align_corners=False)


def _smaller(frames: Tensor, scale: int) -> Tensor:
    side = (frames.shape[-2] // scale, frames.shape[-1] // scale)
    return functional.interpolate(frames, side, mode="bicubic", align_corners=False, antialias=True)


def _resized(motion: Tensor, side: torch.Size) -> Tensor:
    grown = functional.interpolate(motion, side, mode="bilinear", align_corners=False)
    return grown * grown.new_tensor([side[1] / motion.shape[-1], side[0] / motion.shape[-2]])[:, None, None]
