"""The HTML report: self-contained, inert, and honest in its words."""

import html
import itertools
import re
from html.parser import HTMLParser

from .conftest import page_of
from .sample import SENTENCES, VARIANTS, hostile_results

VOID = {"meta", "img", "br", "link", "path", "rect", "circle"}


class Reader(HTMLParser):
    """Collects elements, what they refer to, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self._in_style = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._in_style = tag == "style"
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        self._in_style = False

    def handle_data(self, data):
        if not self._in_style:
            self.text.append(data)


def cover(page: str) -> str:
    """The text of page one."""
    return " ".join(Reader(re.search(r'<header id="summary".*?</header>', page, re.DOTALL)[0]).text)


def test_content_security_policy_comes_before_any_content(page):
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in page
    assert page.index("Content-Security-Policy") < page.index("<style>")


def test_nothing_is_fetched_and_nothing_runs(page):
    reader = Reader(page)
    assert not {"script", "iframe", "object", "embed", "link", "form", "base"} & set(reader.tags)
    for _, name, value in reader.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "srcset", "action", "poster"):
            assert value.startswith(("data:image/png;base64,", "data:image/jpeg;base64,", "#"))
    style = page[page.index("<style>") : page.index("</style>")]
    assert set(re.findall(r"url\((.{0,20})", style)) == {"data:font/woff2;base"}
    assert "@import" not in style


def test_every_anchor_leads_somewhere(page):
    attributes = Reader(page).attributes
    ids = [value for _, name, value in attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for _, name, value in attributes if name == "href"} <= set(ids)


def test_headings_never_skip_a_level(page):
    depths = [int(tag[1]) for tag in Reader(page).tags if re.fullmatch(r"h[1-6]", tag)]
    assert depths[0] == 1
    assert depths.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(depths))


def test_every_picture_and_chart_says_what_it_shows(page):
    pictures = re.findall(r"<img [^>]*>", page)
    assert all(re.search(r'alt="[^"]{10,}"', picture) for picture in pictures)
    drawings = re.findall(r"<svg [^>]*>", page)
    assert all('aria-hidden="true"' in d or re.search(r'role="img" aria-label="[^"]{5,}"', d) for d in drawings)


def test_no_claim_that_an_audit_cannot_make(page):
    words = " ".join(Reader(page).text).lower()
    for claim in (r"\bsafe\b", r"\banonymous\b", r"\banonymized\b", r"\bcompliant\b"):
        assert not re.search(claim, words), claim


def test_verdict_words_stand_on_the_page():
    assert "leakage demonstrated" in page_of("fail")
    assert "no leakage demonstrated under the tested conditions" in page_of("pass")
    for variant, verdict in (("fail", "FAIL"), ("warn", "WARN"), ("pass", "PASS"), ("inconclusive", "INCONCLUSIVE")):
        text = " ".join(Reader(page_of(variant)).text)
        assert verdict in text
        assert SENTENCES[verdict] in html.unescape(text)
        assert " dB" not in cover(page_of(variant))


def test_what_the_report_must_always_say(page):
    text = " ".join(Reader(page).text)
    assert "Enhanced frames show inferred detail, not recovered data." in text
    assert "Indicates where the evidence may be used; not a legal assessment." in text
    assert "Probes are not your data" in text
    assert "What was not tested" in text


def test_hostile_names_stay_text():
    page = page_of("hostile")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "49" not in re.findall(r"\{\{ 7\*7 \}\}|>49<", page)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\ud800-\udfff\x1b]", page)
    page.encode("utf-8")


def test_pictures_of_other_kinds_are_left_out():
    hostile = hostile_results()
    sources = hostile["findings"][0]["results"][0]["pictures"]["original"][:3]
    assert not any(source in page_of("hostile") for source in sources[1:])
    assert "no picture" in page_of("hostile")


def test_a_failed_control_is_said_aloud():
    assert "A control failed." in page_of("inconclusive")
    assert "A control failed." not in page_of("pass")


def test_layers_that_were_not_measured_or_sent_are_told_apart():
    page = page_of("deep")
    assert page.count("not measured") > 29
    assert "stays with the client" in page
    assert "Table of all 150 layers" in page


def test_long_tables_fold_on_screen():
    assert re.search(r"<details><summary>Table of all 150 layers", page_of("deep"))
    assert set(Reader(page_of("fail")).tags) - VOID
    assert len(VARIANTS) >= 10
