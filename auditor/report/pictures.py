"""Pictures from results.json are untrusted: only a PNG or JPEG that really decodes is shown."""

import base64
import binascii
import io
import re
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from PIL import Image

_ACCEPTED = re.compile(r"data:image/(?:png|jpeg);base64,([A-Za-z0-9+/]+={0,2})")
_LONGEST_SIDE = 2048
_SMALL = 96
_PRINTED = 192


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that may be shown: its data URI, of nothing but base64, and its size in pixels."""

    uri: Markup
    width: int
    height: int

    @property
    def small(self) -> bool:
        """True where enlarging must keep pixels as squares."""
        return max(self.width, self.height) < _SMALL


class PictureGallery:
    """Every picture of one report, decoded once.

    Small pictures stay as they are on screen; in print they are enlarged by whole factors, since PDF viewers differ in
    how they enlarge. Large ones become JPEG where that is shorter: results.json keeps them as they were.
    """

    def __init__(self, printed: bool) -> None:
        self._printed = printed
        self._known: dict[str, Picture | None] = {}

    def picture(self, uri: Any) -> Picture | None:
        """Return the picture behind a data URI, or None when it is not one that is accepted."""
        if not isinstance(uri, str):
            return None
        if uri not in self._known:
            self._known[uri] = self._accept(uri)
        return self._known[uri]

    def _accept(self, uri: str) -> Picture | None:
        match = _ACCEPTED.fullmatch(uri)
        if match is None:
            return None
        try:
            with Image.open(io.BytesIO(base64.b64decode(match[1], validate=True)), formats=("PNG", "JPEG")) as image:
                if max(image.size) > _LONGEST_SIDE:
                    return None
                pixels = image.convert("RGB")
        except (OSError, ValueError, SyntaxError, binascii.Error, Image.DecompressionBombError):
            return None
        return Picture(Markup(self._shown(uri, pixels)), *pixels.size)

    def _shown(self, uri: str, pixels: Image.Image) -> str:
        longest = max(pixels.size)
        if longest >= _SMALL:
            return min(uri, _encode(pixels, "JPEG", quality=88), key=len)
        if not self._printed:
            return uri
        factor = max(1, _PRINTED // longest)
        larger = (factor * pixels.width, factor * pixels.height)
        return _encode(pixels.resize(larger, Image.Resampling.NEAREST), "PNG")


def _encode(pixels: Image.Image, form: str, **options: Any) -> str:
    stored = io.BytesIO()
    pixels.save(stored, form, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(stored.getvalue()).decode('ascii')}"
