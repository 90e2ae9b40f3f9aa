"""German says all that English says: no message is missing, left over, or filled in otherwise."""

import functools
import html
import re

import jinja2
import pytest
from rendered import page_contradictions

from auditor.report.language import digits, recorded, say, say_many, speaking
from auditor.report.language.catalogue import RECORDED, catalogue, entries
from auditor.report.page import render
from auditor.report.plain import plain

from .messages import ROOT, TEMPLATES, entry_text, filled, messages, places, tags
from .sample import VARIANTS

PO = (ROOT / "report_templates" / "languages" / "de.po").read_text("utf-8")
ENTRIES = list(entries(PO))
# Names and units that are the same in every language.
NAMES = {"fl-audit", "PSNR", "SSIM", "LPIPS", "SHA-256", "Audit", "dB"}
# Documents of commands for engineers, which are written in English alone.
ENGLISH_ONLY = {"comparison.html.j2", "comparison_plot.html.j2", "defend.html.j2"}
CONTEXT = dict.fromkeys(
    ("organisation", "system", "purpose", "owner", "reviewer", "recipient", "next_review"), "Klinikum <b>Süd</b>"
) | {"language": "de", "annexes": ["dpia"]}


@functools.cache
def german(variant: str) -> str:
    return render(plain(VARIANTS[variant]() | {"context": CONTEXT}), printed=False)


def test_every_message_has_a_german_text_and_none_is_left_over():
    found = messages()
    held = {(e.english, e.plural) for e in ENTRIES if e.context != RECORDED and filled(e)}
    missing = [entry_text(*message) for message in found if message not in held]
    assert not missing, "add to de.po:\n" + "\n".join(missing)
    assert not held - found.keys(), "nothing says these any more"


def test_german_has_the_places_and_tags_of_english():
    for entry in ENTRIES:
        wanted = places(entry.plural or entry.english)
        for text in entry.texts:
            assert places(text) <= places(entry.english) | wanted, entry.english
        assert places(entry.texts[-1]) == wanted, entry.english
        assert tags(entry.texts[0]) == tags(entry.english), entry.english
        assert entry.texts[0].count("%%") == entry.english.count("%%"), entry.english


def test_no_word_of_a_template_stands_outside_a_message():
    for path in (path for path in TEMPLATES if path.name not in ENGLISH_ONLY):
        text = re.sub(r"\{#.*?#\}|<style>.*?</style>|\{%\s*trans.*?endtrans\s*%\}", " ", path.read_text(), flags=re.S)
        text = re.sub(r"<code>[^<]*</code>|\{%.*?%\}|\{\{.*?\}\}", " ", text, flags=re.S)
        text = re.sub(r"<[^>]*>", " ", text)
        words = set(re.findall(r"[A-Za-z][A-Za-z-]+[A-Za-z0-9]*", text)) - NAMES - {"doctype", "html"}
        assert not {w for w in words if not re.fullmatch(r"SHA-\d+|dB", w)}, path.name


def test_catalogues_that_are_none_are_refused():
    with pytest.raises(ValueError, match="line 2"):
        list(entries('msgid "a"\nmsgstr b\n'))


def texts(value) -> list[str]:
    """Every text of the results, the longest first."""
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sorted((text for item in items for text in texts(item)), key=len, reverse=True)


@functools.cache
def own_words(variant: str) -> str:
    """What a German page says without what the results say: sentences that are made up here have no translation."""
    seen = re.sub(r'<style>.*?</style>|<span lang="en">.*?</span>|<[^>]*>', " ", german(variant), flags=re.S)
    seen = " ".join(html.unescape(seen).split())
    for text in texts(plain(VARIANTS[variant]())):
        if 12 < len(text) < 2000:
            seen = re.sub(re.escape(" ".join(text.rstrip(".").split())[:90]), " ", seen, flags=re.IGNORECASE)
    return seen


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v != "hostile"])
def test_german_pages_agree_with_themselves_and_are_german(variant):
    page = german(variant)
    assert '<html lang="de">' in page
    assert not re.search(r"<text[^>]*>[^<]*<span", page), "HTML ends a drawing where a span begins"
    assert page_contradictions(page) == ()
    seen = own_words(variant)
    english = [seen[m.start() - 60 : m.end() + 60] for m in re.finditer(r" (?:the|and|what|not|with) ", seen)]
    assert not english
    assert "Restrisiko" in seen
    for claim in (r"\banonym\b(?! ist)", r"\bunbedenklich\b", r"\bkonform\b"):
        assert not re.search(claim, seen.lower())


def test_german_pages_of_hostile_results_agree_with_themselves():
    page = german("hostile")
    assert page_contradictions(page) == ()
    assert "<script" not in page
    assert not re.search("[\u202a-\u202e\u2066-\u2069\ud800-\udfff\x1b]", page)


def test_numbers_and_dates_are_written_as_the_language_does():
    seen = own_words("fail")
    assert "22. November 2025, 15:34 UTC" in seen
    assert re.search(r"\d+,\d dB", seen)
    assert not re.search(r"\d\.\d dB", seen)
    assert "100 %" in seen
    assert digits("1,843,210.5", "de") == "1.843.210,5"


def test_what_the_user_wrote_is_escaped_in_german_too():
    assert "<b>Süd" not in german("fail")
    assert "Klinikum &lt;b&gt;Süd&lt;/b&gt;" in german("fail")


def test_sentences_of_results_are_recognised_with_what_stands_in_them():
    sentence = (
        "Least squares around one reference frame recovered nothing that beats chance: best 14.2 dB on a_b, -5.2 dB "
        "against the best blind guess (reference copy); the same attack on another clip's update stayed at chance."
    )
    with speaking("de"):
        assert recorded(sentence) == (
            "Kleinste Quadrate um ein Referenzbild: Nichts über Zufallsniveau wurde wiederhergestellt, bestes Ergebnis "
            "14,2 dB auf a_b, -5,2 dB gegenüber dem besten Raten (Kopie der Referenz); derselbe Angriff auf das Update "
            "eines anderen Clips blieb auf Zufallsniveau."
        )
        assert recorded("something that nobody translated") == "something that nobody translated"
        assert say_many("%(n)s round", "%(n)s rounds", 3) == "3 Runden"
    assert recorded(sentence) == sentence
    assert say("yes") == "yes"
    assert catalogue("de").sentences


def test_a_missing_message_is_an_error_and_not_english():
    with speaking("de"), pytest.raises(KeyError):
        say("nobody said this")


def test_templates_have_no_message_that_is_not_whole():
    environment = jinja2.Environment(extensions=["jinja2.ext.i18n"])
    for path in TEMPLATES:
        for _, _, text in environment.extract_translations(path.read_text()):
            whole = text if isinstance(text, str) else (text or ("",))[0] or ""
            assert len(re.findall(r"<\w", whole)) == len(re.findall(r"</\w", whole)), whole
