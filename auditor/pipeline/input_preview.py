"""A clip as the network reads it: the tensor that reaches the first layer, cut along that layer's own axes."""

import io
from collections.abc import Iterable, Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from auditor.model import VideoModel, first_input
from auditor.records import Clip, Target, record
from auditor.text import printable

SHOWN = 6
SMALLEST, GAP, MARGIN, LINE = 112, 4, 12, 16
INK, GROUND = (20, 24, 32), (255, 255, 255)
CONVOLUTIONS = {"conv3d": 5, "conv2d": 4}
COLOURS = 3


@record
class InputPreview:
    """What enters the network for one clip.

    Attributes
    ----------
    shape, minimum, maximum, mean, std
        Of the tensor that the model is called with; mean and std per colour channel of the clip.
    reader
        Name of the first layer, whose input is shown; empty where the model's own input is shown instead.
    read_shape
        Shape of what is shown.
    frames
        What is shown: `(channel, height, width)` each, values as they enter.
    how
        How `frames` were cut, in words.
    """

    shape: tuple[int, ...]
    minimum: float
    maximum: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    reader: str
    read_shape: tuple[int, ...]
    frames: tuple[Tensor, ...]
    how: str


def input_preview(target: Target, clip: Clip) -> InputPreview:
    """Send a clip to the first layer and look at what arrives there.

    A convolution fixes the meaning of its axes: channels, then time, height and width. Cutting along them shows what
    the network takes for a frame, whatever the layout was said to be: a wrong layout gives stripes or strips.
    """
    clips = clip[None].to(next(iter(target.parameters.values())).device)
    assert isinstance(target.model, VideoModel)
    x = target.model.prepare(clips).detach().cpu()
    low, high = target.input.value_range
    mean, std = (torch.tensor(v)[:, None, None] for v in (target.input.mean, target.input.std))
    values = ((low + clip * (high - low)) - mean) / std
    reader, read, frames, how = _read(target, clips)
    if not frames:
        read, frames = x, tuple(values)
        how = f"the model's input, taken as {target.input.layout}: its first layer is no convolution that fixes axes"
    return InputPreview(
        shape=tuple(x.shape),
        minimum=float(x.min()),
        maximum=float(x.max()),
        mean=tuple(values.mean((0, 2, 3)).tolist()),
        std=tuple(values.std((0, 2, 3), correction=0).tolist()),
        reader=reader,
        read_shape=tuple(read.shape),
        frames=frames,
        how=how,
    )


def _read(target: Target, clips: Tensor) -> tuple[str, Tensor, tuple[Tensor, ...], str]:
    nothing: tuple[str, Tensor, tuple[Tensor, ...], str] = ("", clips, (), "")
    first = next((layer for layer in target.layers if layer.parameters), None)
    if first is None or first.kind not in CONVOLUTIONS:
        return nothing
    assert isinstance(target.model, VideoModel)
    x = first_input(target.model, first.parameters[0], clips)
    if x is None or x.dim() != CONVOLUTIONS[first.kind]:
        return nothing
    x = x.cpu()
    channels = x.shape[1]
    frames = x[0].unbind(1) if first.kind == "conv3d" else x.unbind(0)
    cut = "batch, channel, time, height, width" if first.kind == "conv3d" else "batch, channel, height, width"
    how = f"the input of {printable(first.name, 40)} cut along its own axes ({cut})"
    size = _shown_together(channels)
    if size != channels:
        how += f"; its {channels} channels are shown {'in threes' if size > 1 else 'one by one'}"
    return printable(first.name), x, tuple(_pictures(frames)), how


def _shown_together(channels: int) -> int:
    return COLOURS if channels % COLOURS == 0 else 1


def _pictures(frames: Iterable[Tensor]) -> list[Tensor]:
    """Cut frames into parts of one or three channels, which can be shown."""
    return [part for frame in frames for part in torch.split(frame, _shown_together(len(frame)))]


def preview_picture(clip: Clip, seen: InputPreview) -> bytes:
    """Return a PNG: the clip above, and below what the first layer reads, from its lowest value (black) to its highest.

    One scale serves all channels, so that a mean or deviation that fits one channel only shows as a tint.
    """
    values = torch.stack([torch.stack((frame.min(), frame.max())) for frame in seen.frames])
    low, high = float(values[:, 0].min()), float(values[:, 1].max())
    scale = max(high - low, 1e-12)
    above = _row(_pictures(clip.cpu()), 0.0, 1.0)
    below = _row(list(seen.frames), low, scale)
    shape = " x ".join(map(str, seen.read_shape))
    captions = (
        ["The clip, resized for this model"],
        [
            f"What enters: {seen.how}",
            f"shape {shape}, values {low:.3g} (black) to {high:.3g} (white); {len(seen.frames)} pictures in all",
        ],
    )
    font = ImageFont.load_default(12)
    widest = max(font.getlength(text) for texts in captions for text in texts)
    width = 2 * MARGIN + max(above.width, below.width, round(widest))
    height = 2 * MARGIN + above.height + below.height + 3 * LINE + 3 * GAP
    picture = Image.new("RGB", (width, height), GROUND)
    draw, y = ImageDraw.Draw(picture), MARGIN
    for texts, row in zip(captions, (above, below), strict=True):
        for text in texts:
            draw.text((MARGIN, y), text, fill=INK, font=font)
            y += LINE
        picture.paste(row, (MARGIN, y + GAP // 2))
        y += row.height + GAP + GAP // 2
    stored = io.BytesIO()
    picture.save(stored, "PNG", optimize=True)
    return stored.getvalue()


def _row(frames: Sequence[Tensor], low: float, scale: float) -> Image.Image:
    chosen = [frames[round(i * (len(frames) - 1) / max(SHOWN - 1, 1))] for i in range(min(SHOWN, len(frames)))]
    if len(frames) <= SHOWN:
        chosen = list(frames)
    tiles = [_tile((frame.float() - low) / scale) for frame in chosen]
    row = Image.new("RGB", (sum(t.width for t in tiles) + GAP * (len(tiles) - 1), tiles[0].height), GROUND)
    x = 0
    for tile in tiles:
        row.paste(tile, (x, 0))
        x += tile.width + GAP
    return row


def _tile(frame: Tensor) -> Image.Image:
    pixels = frame.clamp(0, 1).mul(255).round().to(torch.uint8).expand(COLOURS, -1, -1).permute(1, 2, 0)
    image = Image.fromarray(pixels.contiguous().numpy())
    factor = max(1, -(-SMALLEST // max(image.size)))
    image = image.resize((factor * image.width, factor * image.height), Image.Resampling.NEAREST)
    if max(image.size) > 4 * SMALLEST:
        image.thumbnail((2 * SMALLEST, 2 * SMALLEST))
    return image
