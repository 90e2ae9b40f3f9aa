"""The reader of finished reports finds what was planted, and nothing on pages that agree."""

import re

import pytest
from rendered import page_contradictions

from .conftest import page_of


def swap(pattern: str, new: str):
    """Return a change of one place of a page."""

    def change(page: str) -> str:
        changed, count = re.subn(pattern, new, page, count=1, flags=re.DOTALL)
        assert count == 1, pattern
        return changed

    return change


PLANTED = {
    "verdict in the title": (swap(r": FAIL</title>", ": PASS</title>"), "the title says PASS"),
    "verdict in the box": (swap(r"<strong>FAIL</strong>", "<strong>WARN</strong>"), "page one WARN"),
    "sentence": (swap(r'(<p class="verdict-sentence">)[^<]*', r"\1PASS: nothing."), "the sentence says PASS"),
    "what can be learned": (
        swap(r"(The clip itself</th>.*?<strong>)recovered", r"\1not shown"),
        "does not say that the clip itself",
    ),
    "label on page one": (swap(r"(The label [^<]*</th>.*?<strong>)read", r"\1not shown"), "differ on whether labels"),
    "finding's grade": (
        swap(r'<span class="tag tag-exact">Exact</span>', '<span class="tag tag-gist">Gist</span>'),
        "and its finding Gist",
    ),
    "finding's meaning": (swap(r'<p class="soft">Exact: ', '<p class="soft">Gist: '), "explained as Gist"),
    "mark of the matrix": (
        swap(r'(<span class="chip chip-)exact("[^>]*>)E</span> </td>', r"\1gist\2G</span> </td>"),
        "the matrix shows",
    ),
    "colour of a mark": (swap(r'(<td><span class="chip chip-)exact"', r'\1gist"'), "is drawn as gist"),
    "picture tile": (
        swap(r'(Picture recovered</p><p class="tile-value">)[^<]*', r"\1+39.9 dB"),
        "no run that counts has that gain",
    ),
    "range of the picture tile": (
        swap(r'(Picture recovered.*?<p class="tile-interval">)[^<]*( over)', r"\1+1.0 to +1.5 dB\2"),
        "outside its own range",
    ),
    "picture that is named": (
        swap(r"best picture [\d.]+ dB", "best picture 59.9 dB"),
        "no run that counts has that PSNR",
    ),
    "clip tile": (
        swap(r'(Clip identified</p><p class="tile-value">)[^<]*', r"\g<1>99 of 99"),
        "the tile 'Clip identified' says 99 of 99",
    ),
    "label tile": (
        swap(r'(Labels read</p><p class="tile-value">)[^<]*', r"\g<1>99 of 99"),
        "the tile 'Labels read' says 99 of 99",
    ),
    "cover": (
        swap(r"strongest reconstruction of this audit: exact", "strongest reconstruction of this audit: gist"),
        "the cover shows gist",
    ),
    "audited row": (swap(r'(<tr class="audited">.*?<td>)Exact', r"\1Gist"), "the what-if's audited row is Gist"),
    "two audited rows": (
        swap(r'(class="data whatif".*?<tr class="audited">.*?</tr>\s*)<tr>', r'\1<tr class="audited">'),
        "marks 2 rows as audited",
    ),
    "difference": (swap(r"<small>−22\.1 dB</small>", "<small>−2.1 dB</small>"), "and says -2.1"),
    "action on page one": (
        swap(r"(What to do first</h2>\s*<p>[^<]*</p>\s*<ol>\s*<li><strong>)[^<]*", r"\1Do nothing."),
        "is not the section's",
    ),
    "effect of an action": (
        swap(r"(Measured effect: )[^<]*", r"\1attack gain +77.0 dB to +1.0 dB on one clip (measured)"),
        "an action names a gain of 77.0 dB",
    ),
    "control": (
        swap(r'<span class="state state-yes">', '<span class="state state-no">'),
        "a control is marked as failed and not told of",
    ),
    "hash": (swap(r"(SHA-256 <code>)[0-9a-f]{6}", r"\1aaaaaa"), "shortens the model's hash"),
    "reason of a level": (swap(r'<p class="why-below">[^<]*</p>', ""), "and no reason is given"),
    "level": (swap(r'(exposed by the whole update</th><td class="n">)[\d.]+', r"\g<1>99.0"), "is said to be below"),
    "severity": (swap(r"(Severity )[\d.]+( of 10)", r"\g<1>1.0\2"), "severity on page one is 1.0"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_contradiction_on_a_page_is_found(name) -> None:
    plant, says = PLANTED[name]
    found = page_contradictions(plant(page_of("fail")))
    assert any(says in text for text in found), found


def test_pages_of_every_variant_agree_with_themselves(page) -> None:
    assert page_contradictions(page) == ()
