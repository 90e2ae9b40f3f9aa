"""Pictures of results are shown where they decode, are of a known kind and of a size that can be drawn."""

import base64
import io

import pytest
from PIL import Image

from auditor.report.pictures import PictureGallery


def uri(width: int, height: int, kind: str = "png") -> str:
    stored = io.BytesIO()
    Image.new("RGB", (width, height), (10, 200, 30)).save(stored, kind)
    return f"data:image/{kind};base64,{base64.b64encode(stored.getvalue()).decode()}"


@pytest.mark.parametrize("printed", [False, True])
def test_what_is_shown_has_its_own_size(printed):
    shown = PictureGallery(printed).picture(uri(8, 6))
    assert (shown.width, shown.height, shown.small) == (8, 6, True)
    assert shown.uri.startswith("data:image/png;base64,")


@pytest.mark.parametrize(
    "wrong",
    [uri(2100, 4), uri(4, 2100), uri(8, 8, "gif"), uri(8, 8) + "<", uri(8, 8)[:60], "javascript:alert(1)", None],
    ids=["too wide", "too high", "another kind", "markup", "cut", "script", "none"],
)
def test_what_is_not_a_picture_to_show_is_left_out(wrong):
    assert PictureGallery(printed=False).picture(wrong) is None
