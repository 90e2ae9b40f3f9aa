"""The PDF: quiet, whole, repeatable, and inside its margins."""

import builtins
import contextlib
import logging
import os
import re
import zlib
from functools import lru_cache

import pytest

from auditor.report import PdfUnavailableError, write
from auditor.report.pdf import layout, to_pdf
from auditor.report.plain import plain

from .sample import VARIANTS, sample_results

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

# Two to five seconds each; the others differ from them in words and numbers.
LAID_OUT = ("fail", "hostile", "sparse", "empty")


@lru_cache
def drawn(variant):
    return layout(plain(VARIANTS[variant]()))


def laid_out(variant):
    return drawn(variant)[0]


def streams(content):
    for match in re.finditer(rb"stream\r?\n(.*?)endstream", content, re.DOTALL):
        with contextlib.suppress(zlib.error):
            yield zlib.decompress(match[1])


def texts(page):
    return [box for box in page._page_box.descendants() if type(box).__name__ == "TextBox" and box.text.strip()]


@pytest.mark.parametrize("variant", [v if v in LAID_OUT else pytest.param(v, marks=pytest.mark.slow) for v in VARIANTS])
def test_every_variant_is_laid_out_without_a_word(variant, capfd):
    assert drawn(variant)[1] == ()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("variant", ["hostile", "sparse"])
def test_drawing_is_quiet_too(variant, capfd, monkeypatch):
    # The page is laid out once for all tests; here it is drawn.
    monkeypatch.setattr("auditor.report.pdf._pages", lambda page: drawn(variant))
    content, complaints = to_pdf(plain(VARIANTS[variant]()))
    assert complaints == ()
    assert content.startswith(b"%PDF-")
    assert any(b'pdfaid:part="3" pdfaid:conformance="A"' in stream for stream in streams(content))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("variant", LAID_OUT)
def test_text_stays_inside_the_margins_and_no_page_is_empty(variant):
    document = laid_out(variant)
    for number, page in enumerate(document.pages, start=1):
        found = texts(page)
        body = [box for box in found if box.position_y < page.height - 60]
        assert len(body) > 3, f"page {number} is all but empty"
        over = [box.text for box in found if box.position_x + box.width > page.width - 55]
        assert not over, f"page {number}: {over[:3]}"


@pytest.mark.parametrize("variant", ["fail", "hostile", "sparse"])
def test_page_one_stands_alone(variant):
    document = laid_out(variant)
    first, second = document.pages[:2]
    assert {"summary"} == set(first.anchors)
    assert "contents" in second.anchors
    shown = "".join(box.text for box in texts(first))
    for title in (
        "What can be learned",
        "Who can learn it",
        "How sure this is",
        "What to do first",
        "What was not tested",
        "Residual risk",
    ):
        assert title in shown


@pytest.mark.parametrize("language", ["en", "de"])
def test_page_one_stands_alone_with_the_longest_texts(language):
    long = "Word after word says what the attack did and what its null control did not, until nothing more fits. "
    results = sample_results(findings=1, frames=4, layers=2)
    results["findings"][0]["summary"] = 4 * long
    results["verdict"]["sentence"] = "FAIL: leakage demonstrated"
    results["actions"] = [{"text": 2 * long, "effect": 2 * long}] * 4
    results["confidence"]["reasons"] = [long] * 3
    results["protocol"]["threat_model"]["out_of_scope"] = [long] * 4
    texts = ("organisation", "system", "purpose", "owner", "reviewer", "recipient", "next_review")
    results["context"] = {**dict.fromkeys(texts, 2 * long), "language": language, "annexes": []}
    first, second = layout(plain(results))[0].pages[:2]
    assert {"summary"} == set(first.anchors)
    assert "contents" in second.anchors


def test_headings_are_bookmarks():
    tree = laid_out("fail").make_bookmark_tree()
    assert tree
    assert "Limitations" in str(tree)


def test_without_pango_the_other_files_are_written_and_one_line_says_what_to_install(monkeypatch, tmp_path):
    imported = builtins.__import__

    def missing(name, *rest, **more):
        if name.startswith("weasyprint"):
            raise OSError("cannot load library 'libpango-1.0-0'")
        return imported(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(PdfUnavailableError) as caught:
        write(sample_results(), [tmp_path / "a.pdf", tmp_path / "a.html", tmp_path / "a.json"])
    assert "apt-get install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["a.html", "a.json"]


def test_the_renderers_complaints_are_values_not_output(monkeypatch, capfd):
    import auditor.report.pdf as pdf

    page = "<html lang=en><title>x</title><style>p { nonsense: 1 }</style><p>x</p></html>"
    monkeypatch.setattr(pdf, "render", lambda results, printed: page)
    before = list(logging.getLogger("weasyprint").handlers)
    _, complaints = to_pdf(plain(sample_results(findings=1)))
    assert any("nonsense" in complaint for complaint in complaints)
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("weasyprint").handlers == before
