"""The HTML report: self-contained, inert, and honest in its words."""

import base64
import html
import io
import itertools
import re
from html.parser import HTMLParser

from PIL import Image

from auditor.report.page import render
from auditor.report.plain import plain

from .conftest import page_of
from .sample import SENTENCES, VARIANTS, hostile_results, sample_results

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
            assert value.startswith(
                ("data:image/png;base64,", "data:image/jpeg;base64,", "data:image/webp;base64,", "#")
            )
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


def test_the_clip_moves_without_a_script_and_rests_for_who_wants_no_motion():
    page = page_of("fail")
    (source,) = re.findall(r'<source media="([^"]*)" srcset="data:image/png', page)
    assert source == "(prefers-reduced-motion: reduce)"
    (found,) = re.findall(r'<img src="data:image/webp;base64,([^"]+)"', page)
    with Image.open(io.BytesIO(base64.b64decode(found))) as moving:
        assert moving.n_frames == 8
        assert moving.width > 3 * moving.height
    assert "image/webp" not in page_of("sparse")


def test_page_one_tells_person_scene_label_and_single_frames_apart():
    def lines(variant):
        found = re.search(r'<table class="learned">.*?</table>', page_of(variant), re.DOTALL)
        return re.findall(r"<th[^>]*>([^<]*)</th><td><svg.*?<strong>([^<]*)", found[0], re.DOTALL)

    assert (
        dict(lines("fail")).items()
        >= {"The clip itself": "recovered", "The label (what the clip is filed as)": "read"}.items()
    )
    told = dict(lines("warn"))
    assert told["People, or whatever else moves"] == "not visible"
    assert told["The scene"] == "recognisable"
    assert told["Whether a given picture was in the clip"] == "can be told"
    assert set(dict(lines("empty")).values()) == {"not tested"}


def test_who_signs_and_what_the_user_wrote_stand_on_page_one():
    empty = dict.fromkeys(("organisation", "system", "purpose", "owner", "reviewer", "recipient", "next_review"), "")
    given = {
        "owner": "R. Owner <b>",
        "organisation": "\u202eClinic",
        "next_review": "2027-05-01",
        "recipient": "Cloud Ltd",
    }
    context = {**empty, **given, "language": "en", "annexes": []}
    text = cover(render(plain({**sample_results(findings=1, frames=2), "context": context}), printed=False))
    for said in ("R. Owner <b>", "Clinic", "2027-05-01", "Cloud Ltd", "not stated"):
        assert said in text
    assert "\u202e" not in text


def test_the_users_own_clip_is_on_the_cover():
    results = sample_results("FAIL", frames=2)
    results["probes"][0] |= {"kind": "user"}
    own = results["probes"][0]["name"]
    for finding in results["findings"]:
        for result in finding["results"]:
            if result["probe"] == own and result["grade"] != "NOT_SHOWN":
                result["grade"] = "GIST"
    text = cover(render(plain(results), printed=False))
    assert f"Your own clip {own}" in text
    assert "Your own clips: the test clips came with the tool" not in text


def test_a_page_of_many_large_pictures_stays_small_enough_to_be_sent(monkeypatch):
    from auditor.report import page as pages

    monkeypatch.setattr(pages, "MOST_CHARACTERS", 700_000)
    results = plain(sample_results("FAIL", frames=24, findings=1))
    page = render(results, printed=False)
    assert len(page) < 700_000 < len(render(results, printed=True))
    assert "more frames are in results.json" in page
