"""A deep image prior for clips: an untrained 3-D convolutional generator, whose weights are what moves."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from auditor.records import Clips

_KERNEL = 3
_SLOPE = 0.1


@dataclass(frozen=True)
class DeepPrior:
    """x = sigmoid(f_w(noise)) with a small 3-D generator f, one per clip; w starts random and is the variable.

    Convolutions generate structure before they generate noise, so the net itself is the prior and no data is needed
    (Ulyanov et al. 2018, arXiv 1711.10925, here in 3-D). Fixed noise on a grid of a quarter of the clip's height and
    width (and half of its frames) goes through `blocks` of convolution, instance norm and leaky ReLU, with two
    trilinear enlargements between them.

    Attributes
    ----------
    width
        Channels of every block.
    seed
        Of the fixed noise and the first weights.
    """

    width: int = 24
    blocks: int = 4
    seed: int = 0

    def bind(self, like: Clips) -> "BoundDeepPrior":
        """Return the variables for clips of this shape."""
        return BoundDeepPrior(self, like)


class BoundDeepPrior:
    """`DeepPrior` for one shape."""

    def __init__(self, prior: DeepPrior, like: Clips) -> None:
        t, channels, h, w = like.shape[1:]
        halves = [(_less(t, 2), _less(h, 4), _less(w, 4)), (_less(t, 2), _less(h, 2), _less(w, 2)), (t, h, w)]
        last = prior.blocks - 1
        self._sizes = [halves[min(2, block * 3 // prior.blocks)] for block in range(last)] + [halves[2]]
        ins = [prior.width] * prior.blocks + [prior.width]
        outs = [prior.width] * prior.blocks + [channels]
        kernels = [_KERNEL] * prior.blocks + [1]
        self._shapes = [(o, i, k, k, k) for o, i, k in zip(outs, ins, kernels, strict=True)]
        self._count = sum(math.prod(s) + s[0] for s in self._shapes)
        generator = torch.Generator().manual_seed(prior.seed)
        noise = torch.randn(len(like), prior.width, *halves[0], generator=generator)
        self._noise = noise.to(like)
        self._first = torch.stack([self._initial(generator) for _ in range(len(like))]).to(like)

    def of(self, clips: Clips) -> Float[Tensor, "clip weight"]:
        """Return fresh weights whose clips have, per channel, the mean of the given ones.

        The generator has no inverse; a brightness is all that a start can tell it.
        """
        first = self._first.clone()
        channels = clips.shape[2]
        level = clips.mean(dim=(1, 3, 4)).clamp(0.02, 0.98)
        first[:, -channels:] = torch.logit(level)
        return first

    def clips(self, variable: Float[Tensor, "clip weight"], progress: float) -> Clips:
        """Return what the generators make, in [0, 1]."""
        return torch.stack([self._made(w, n) for w, n in zip(variable, self._noise, strict=True)])

    def confine(self, variable: Tensor) -> None:
        """Leave the weights alone."""

    def _initial(self, generator: torch.Generator) -> Tensor:
        parts = []
        for shape in self._shapes:
            scale = math.sqrt(2.0 / math.prod(shape[1:]))
            parts += [scale * torch.randn(math.prod(shape), generator=generator), torch.zeros(shape[0])]
        return torch.cat(parts)

    def _made(self, weights: Tensor, noise: Tensor) -> Tensor:
        x, at = noise[None], 0
        for block, shape in enumerate(self._shapes):
            kernel = weights[at : at + math.prod(shape)].view(shape)
            at += math.prod(shape)
            bias = weights[at : at + shape[0]]
            at += shape[0]
            if block == len(self._shapes) - 1:
                return F.conv3d(x, kernel, bias).sigmoid()[0].transpose(0, 1)
            if tuple(x.shape[2:]) != self._sizes[block]:
                x = F.interpolate(x, self._sizes[block], mode="trilinear", align_corners=False)
            x = F.conv3d(x, kernel, bias, padding=_KERNEL // 2)
            x = F.leaky_relu(_normalised(x), _SLOPE)
        raise AssertionError("the last block returns")


def _normalised(x: Tensor) -> Tensor:
    """Instance norm; where a channel has a single value, that value."""
    if math.prod(x.shape[2:]) < 2:
        return x
    mean = x.mean(dim=(2, 3, 4), keepdim=True)
    return (x - mean) / (x.var(dim=(2, 3, 4), keepdim=True, correction=0) + 1e-5).sqrt()


def _less(size: int, times: int) -> int:
    return max(1, -(-size // times))
