"""The clip as a moving picture: what the client holds and what came back, side by side, without a script."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from PIL import Image

from auditor.report.pictures import Picture, PictureGallery

_KINDS = ("original", "reconstruction", "baseline")
_MOST_FRAMES = 32
# Small frames are enlarged by whole factors, so that pixels stay squares.
_SIDE, _GAP = 220, 6
_MILLISECONDS, _QUALITY = 180, 80


@dataclass(frozen=True, slots=True, kw_only=True)
class MovingPicture:
    """A moving WebP and its middle frame for readers who want no motion, as data URIs; `columns` are side by side."""

    uri: Markup
    still: Markup
    width: int
    height: int
    columns: tuple[str, ...]


def moving_picture(result: Mapping[str, Any] | None, gallery: PictureGallery) -> MovingPicture | None:
    """Return a result's frames in motion; None where fewer than two frames have both pictures."""
    pictures = (result or {}).get("pictures") or {}
    kinds = [kind for kind in _KINDS if pictures.get(kind)]
    if not {"original", "reconstruction"} <= set(kinds):
        return None
    rows = [[gallery.picture(uri) for uri in row] for row in zip(*(pictures[k] for k in kinds), strict=False)]
    whole = [[p for p in row if p is not None] for row in rows[:_MOST_FRAMES]]
    frames = [_beside(row) for row in whole if len(row) == len(kinds)]
    if len(frames) < 2 or len({frame.size for frame in frames}) > 1:
        return None
    first, *rest = frames
    return MovingPicture(
        uri=_uri(first, "webp", save_all=True, append_images=rest, duration=_MILLISECONDS, loop=0, quality=_QUALITY),
        still=_uri(frames[len(frames) // 2], "png"),
        width=first.width,
        height=first.height,
        columns=tuple(kinds),
    )


def _beside(row: list[Picture]) -> Image.Image:
    shown = [_enlarged(picture) for picture in row]
    width = sum(image.width for image in shown) + _GAP * (len(shown) - 1)
    sheet = Image.new("RGB", (width, max(image.height for image in shown)), (127, 127, 127))
    left = 0
    for image in shown:
        sheet.paste(image, (left, 0))
        left += image.width + _GAP
    return sheet


def _enlarged(picture: Picture) -> Image.Image:
    content = base64.b64decode(str(picture.uri).partition(",")[2])
    with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
        pixels = image.convert("RGB")
    factor = max(1, round(_SIDE / max(pixels.size)))
    return pixels.resize((factor * pixels.width, factor * pixels.height), Image.Resampling.NEAREST)


def _uri(image: Image.Image, form: str, **options: Any) -> Markup:
    stored = io.BytesIO()
    image.save(stored, form.upper(), **options)
    return Markup(f"data:image/{form};base64,{base64.b64encode(stored.getvalue()).decode('ascii')}")
