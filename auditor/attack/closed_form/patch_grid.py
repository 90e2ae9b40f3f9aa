"""How the rows of a patch embedding's input are made of a clip's pixels."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from auditor.attack.closed_form.pixel_map import PixelMap
from auditor.prior.modes import cosine_matrix
from auditor.records import Clip

# Normalisation is the same at every token up to float32 rounding.
_SAME = 1e-4
_GREY = 0.5
# Radial width of a band of in-patch frequencies, in cosine modes.
_BAND = 4


@dataclass(frozen=True)
class PatchGrid:
    """Row n of a patch embedding's input is `centre + scale * (clip.flatten()[pixel[n]] - 0.5)`.

    Attributes
    ----------
    order, box
        With its columns put into this order, a patch is an array of shape `box` (frame, channel, height, width); a box
        that is no box has shape (1, 1, 1, P).
    """

    pixel: Int[Tensor, "token pixel"]
    scale: Float[Tensor, " pixel"]
    centre: Float[Tensor, " pixel"]
    clip_shape: tuple[int, int, int, int]
    order: Int[Tensor, " pixel"]
    box: tuple[int, int, int, int]

    def to_clip(self, values: Float[Tensor, "token pixel"]) -> Clip:
        """Put values, in pixel units less mid grey, back in place; grey where no patch looks."""
        t, c, h, w = self.clip_shape
        clip = torch.zeros(t * c * h * w, dtype=values.dtype, device=values.device)
        clip[self.pixel.reshape(-1)] = values.reshape(-1)
        return (_GREY + clip.reshape(self.clip_shape)).clamp(0.0, 1.0).float()

    def modes(self, rows: Float[Tensor, "row pixel"]) -> Float[Tensor, "row pixel"]:
        """Return the cosine coefficients of patches."""
        matrices = (cosine_matrix(n).to(rows) for n in self.box)
        patches = rows[:, self.order].reshape(-1, *self.box)
        return torch.einsum("ntchw,at,bc,ih,jw->nabij", patches, *matrices).reshape(rows.shape)

    def patches(self, modes: Float[Tensor, "row pixel"]) -> Float[Tensor, "row pixel"]:
        """Return the patches with these cosine coefficients."""
        matrices = (cosine_matrix(n).to(modes) for n in self.box)
        boxes = modes.reshape(-1, *self.box)
        rows = torch.einsum("nabij,at,bc,ih,jw->ntchw", boxes, *matrices).reshape(modes.shape)
        return rows[:, self.order.argsort()]

    @property
    def band(self) -> Int[Tensor, " pixel"]:
        """Number the coefficients of `modes` by frame mode, channel mode and ring of spatial frequency."""
        t, c, h, w = torch.meshgrid(*(torch.arange(n) for n in self.box), indexing="ij")
        ring = ((h.square() + w.square()).double().sqrt() / _BAND).long()
        label = (t * self.box[1] + c) * (int(ring.max()) + 1) + ring
        return torch.bincount(label.reshape(-1)).gt(0).cumsum(0)[label.reshape(-1)].sub(1).to(self.pixel.device)


def patch_grid(pixels: PixelMap, kernel: tuple[int, ...] | None) -> PatchGrid | None:
    """Cut an operation's input into patches: its rows, or for a convolution the tiles of `kernel`, image by image.

    Returns None where tokens overlap, hold padding, or are not normalised alike.
    """
    pixel, scale, offset, known = (
        _rows(value.reshape(pixels.shape), kernel)
        for value in (pixels.pixel, pixels.scale, pixels.offset, pixels.known)
    )
    if not bool(known.all()) or _distinct(pixel) != pixel.numel():
        return None
    centre = offset + _GREY * scale
    if any(float((v - v[:1]).abs().max()) > _SAME * float(scale.abs().max()) for v in (scale, centre)):
        return None
    order, box = _box(pixel, pixels.clip_shape)
    return PatchGrid(
        pixel=pixel,
        scale=scale[0],
        centre=centre[0],
        clip_shape=pixels.clip_shape,
        order=order,
        box=box,
    )


def _rows(value: Tensor, kernel: tuple[int, ...] | None) -> Tensor:
    """Return (token, pixel); what lies beyond the last whole tile is dropped, as a convolution does."""
    if kernel is None:
        return value.reshape(-1, value.shape[-1])
    images, channels, space, n = value.shape[0], value.shape[1], value.shape[2:], len(kernel)
    grid = tuple(size // k for size, k in zip(space, kernel, strict=True))
    whole = value
    for axis, (g, k) in enumerate(zip(grid, kernel, strict=True)):
        whole = whole.narrow(2 + axis, 0, g * k)
    split = whole.reshape(images, channels, *(size for pair in zip(grid, kernel, strict=True) for size in pair))
    tokens_then_pixels = (0, *range(2, 2 + 2 * n, 2), 1, *range(3, 3 + 2 * n, 2))
    return split.permute(tokens_then_pixels).reshape(images * math.prod(grid), -1)


def _box(pixel: Tensor, clip_shape: tuple[int, int, int, int]) -> tuple[Tensor, tuple[int, int, int, int]]:
    """Find the (frame, channel, height, width) box that every token's pixels fill, in the order of its pixels."""
    order = pixel[0].argsort()
    sizes = [_distinct(axis) for axis in torch.unravel_index(pixel[0], clip_shape)]
    box = (sizes[0], sizes[1], sizes[2], sizes[3])
    if box[0] * box[1] * box[2] * box[3] == pixel.shape[1] and bool((pixel[:, order].diff(dim=1) > 0).all()):
        return order, box
    return order, (1, 1, 1, pixel.shape[1])


def _distinct(index: Tensor) -> int:
    return int((torch.bincount(index.reshape(-1)) > 0).sum())
