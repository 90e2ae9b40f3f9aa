"""What somebody who never saw the update would guess."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from auditor.records import Clip


def blind_guesses(
    gallery: Float[Tensor, "candidate frame channel rows columns"],
    size: tuple[int, int],
    reference: Float[Tensor, "shown channel ref_rows ref_columns"] | None = None,
    truth: Clip | None = None,
) -> dict[str, Clip]:
    """Return guesses by name, (frame, channel, *size) in [0, 1]: the best of them is what a reconstruction must beat.

    `grey` is 0.5 throughout, and the mean of the prior that searches without reference frames have. `gallery mean` is
    the mean clip of the gallery, the best guess in mean square error of an attacker whose clips are distributed like
    it, `mean colour` its mean colour, and `typical clip` the gallery's clip that is nearest to its mean. With `truth`
    `gallery mean, true colour` moves the mean clip to the truth's own mean colour: brightness and colour cast of a
    client's camera are no secret that an update has to tell. `reference copy` needs `reference`
    (frame, channel, height, width; oldest first): one frame is held over the clip, several are spread over it evenly
    and interpolated linearly, as an attacker does who knows the scene (R1 and Rk after Rasul et al., 2025); beside it
    stands what else `reference_copies` makes. A smaller
    gallery is enlarged to `size`.
    """
    frames, channels = gallery.shape[1:3]
    mean = _resized(gallery.mean(0), size)
    guesses = {
        "grey": torch.full((frames, channels, *size), 0.5),
        "gallery mean": mean,
        "mean colour": mean.mean((0, 2, 3), keepdim=True).expand_as(mean).contiguous(),
    }
    guesses["typical clip"] = _resized(gallery[_nearest(gallery.mean(0), gallery)], size)
    if truth is not None:
        moved = mean + (truth.to(mean) - mean).mean((0, 2, 3), keepdim=True)
        guesses["gallery mean, true colour"] = moved.clamp(0, 1)
    return guesses if reference is None else guesses | reference_copies(reference, frames, size)


def reference_copies(
    reference: Float[Tensor, "shown channel ref_rows ref_columns"], frames: int, size: tuple[int, int]
) -> dict[str, Clip]:
    """Return what reference frames are by themselves, by name; nothing without frames.

    `reference copy` holds one frame or interpolates several. Of several, the `newest reference` and the
    `reference median` are held as well: they may be nearer to a clip than what lies between frames.
    """
    if not len(reference):
        return {}
    shown = _resized(reference, size)
    copies = {"reference copy": _spread(shown, frames)}
    if len(shown) > 1:
        copies["newest reference"] = _spread(shown[-1:], frames)
        copies["reference median"] = _spread(shown.contiguous().median(0, keepdim=True).values, frames)
    return copies


def _nearest(clip: Clip, gallery: Float[Tensor, "candidate frame channel rows columns"]) -> int:
    """Return the place of the candidate with the least square error; one at a time, to save memory."""
    return min(range(len(gallery)), key=lambda i: float((gallery[i] - clip).square().mean()))


def _resized(clip: Clip, size: tuple[int, int]) -> Float[Tensor, "frame channel rows columns"]:
    if clip.shape[-2:] == size:
        return clip
    return functional.interpolate(clip, size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)


def _spread(reference: Clip, frames: int) -> Float[Tensor, "{frames} channel height width"]:
    """Hold one frame, or interpolate several, over `frames`."""
    position = torch.linspace(0, len(reference) - 1, frames, dtype=torch.float64)
    below, above = position.floor().long(), position.ceil().long()
    return torch.lerp(reference[below], reference[above], (position - below).to(reference)[:, None, None, None])
