"""A report's pages are those that its results give: another attachment, another page or a stamp on one is told."""

import contextlib
import io
import re

import edits
import pypdf
import pypdf.annotations
import pytest
from pypdf.generic import DecodedStreamObject, NameObject

from auditor.errors import UsageError
from auditor.report import write
from auditor.report.outputs import rendered
from auditor.report.pdf import to_pdf
from auditor.report.plain import to_json
from auditor.results.protection.seal import sealed
from auditor.verification.conclusion import verify
from auditor.verification.pdf_objects import PdfFile

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def small(audited):
    """The audit with the pictures of one run, which draws faster."""
    made = {**audited, "findings": [dict(f) for f in audited["findings"]], "integrity": None}
    shown = next(r for finding in made["findings"] for r in finding["results"] if r["pictures"] is not None)
    for finding in made["findings"]:
        finding["results"] = [r if r is shown else {**r, "pictures": None} for r in finding["results"]]
    return sealed(made)


@pytest.fixture(scope="module", autouse=True)
def drawn_once():
    """Draw the pages of one audit once: the same results give the same bytes (tests/report/test_pdf_archive.py).

    What was drawn is also read once: that takes as long as all else of a verification.
    """
    held, known = {}, {}
    read = PdfFile.read

    def remembered(results):
        key = to_json(results)
        if key not in held:
            held[key] = to_pdf(results)
        return held[key]

    def read_once(content, name):
        if content not in known:
            known[content] = read(content, name)
        return known[content]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("auditor.verification.pages.to_pdf", remembered)
        patch.setattr("auditor.report.pdf.to_pdf", remembered)
        patch.setattr(PdfFile, "read", read_once)
        yield


@pytest.fixture(scope="module")
def pdf(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("pages") / "report.pdf"
    write(small, [path])
    return path.read_bytes()


def saved(path, content):
    path.write_bytes(content)
    return path


def changed(content, change):
    """Return the PDF after `change` of a writer that holds it."""
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(content))
    change(writer)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def attach(text):
    def change(writer):
        names = writer.root_object["/Names"]["/EmbeddedFiles"]["/Names"]
        stream = names[1].get_object()["/EF"]["/F"].get_object()
        stream.set_data(text.encode("ascii"))

    return change


def stamp(writer):
    """Draw a white rectangle over page one: no word changes."""
    page = writer.pages[0]
    drawn = DecodedStreamObject()
    drawn.set_data(page.get_contents().get_data() + b"\nq 1 1 1 rg 0 0 600 400 re f Q\n")
    page[NameObject("/Contents")] = writer._add_object(drawn)


def reword(writer):
    """Take the text of page one away."""
    page = writer.pages[0]
    drawn = DecodedStreamObject()
    drawn.set_data(re.sub(rb"\[.*?\] ?TJ", b"", page.get_contents().get_data(), count=3, flags=re.DOTALL))
    page[NameObject("/Contents")] = writer._add_object(drawn)


def repaint(writer):
    for page in writer.pages:
        for image in page.images:
            held = image.indirect_reference.get_object()
            held._data = held._data[:-8] + b"\0" * 8
            return
    raise AssertionError("no page has a picture")


def note(writer):
    writer.add_annotation(0, pypdf.annotations.FreeText(text="PASS", rect=(50, 550, 200, 650)))


def shorten(writer):
    del writer.root_object["/Pages"]["/Kids"][-1]
    writer.root_object["/Pages"][NameObject("/Count")] = pypdf.generic.NumberObject(len(writer.pages) - 1)


def test_a_report_is_verified_whatever_its_name_is(pdf, tmp_path):
    found = verify(saved(tmp_path / "filed.bin", pdf))
    assert found.word == "VERIFIED", found.checks
    assert any("byte for byte" in check.told for check in found.checks)


def test_a_report_that_was_only_saved_anew_is_verified(pdf, tmp_path):
    found = verify(saved(tmp_path / "again.pdf", changed(pdf, lambda writer: None)))
    pages = found.checks[-1]
    assert pages.passed is not False, pages
    assert "EDITED" not in found.word


@pytest.mark.parametrize("change", [stamp, reword, repaint, note, shorten])
def test_pages_that_were_edited_are_never_verified(pdf, tmp_path, change):
    assert verify(saved(tmp_path / "r.pdf", changed(pdf, change))).word != "VERIFIED"


def test_a_note_that_was_laid_over_a_page_is_told_as_words(pdf, tmp_path):
    found = verify(saved(tmp_path / "r.pdf", changed(pdf, note)))
    assert found.word == "EDITED"
    assert "PASS" in found.checks[-1].told


def test_words_that_were_taken_from_a_page_are_told(pdf, tmp_path):
    found = verify(saved(tmp_path / "r.pdf", changed(pdf, reword)))
    assert found.word == "EDITED"
    assert found.checks[-1].told.startswith("page 1 says")


@pytest.mark.slow
def test_an_attachment_of_another_audit_is_told_by_the_pages(pdf, small, tmp_path):
    other = sealed({**small, "model": {**small["model"], "name": "harmless"}})
    found = verify(saved(tmp_path / "r.pdf", changed(pdf, attach(to_json(other)))))
    assert found.word == "EDITED"
    assert "page 1" in found.checks[-1].told


def test_an_attachment_that_was_edited_is_told(pdf, small, tmp_path, monkeypatch):
    """By its own seal: the pages that would be drawn of it are taken for those that are there."""
    monkeypatch.setattr("auditor.verification.pages.to_pdf", lambda results: (pdf, ()))
    edits.PLAIN["hash of the model"](edited := {**small, "model": dict(small["model"])})
    assert verify(saved(tmp_path / "r.pdf", changed(pdf, attach(to_json(edited))))).word == "EDITED"


@pytest.mark.parametrize("damage", [lambda c: c[: len(c) // 2], lambda c: b"%PDF-1.7\n", lambda c: c[:200] + c[400:]])
def test_a_damaged_or_empty_file_is_no_verified_one(pdf, tmp_path, damage):
    path, word = saved(tmp_path / "r.pdf", damage(pdf)), ""
    with contextlib.suppress(UsageError):
        word = verify(path).word
    assert word != "VERIFIED"


def test_a_file_without_results_is_refused(pdf, tmp_path):
    def change(writer):
        del writer.root_object["/Names"]["/EmbeddedFiles"]

    with pytest.raises(UsageError, match=r"holds 0 files of the name results\.json"):
        verify(saved(tmp_path / "r.pdf", changed(pdf, change)))


@pytest.mark.parametrize("suffix", [".html", ".sarif", ".github.sarif", ".xml", ".annotations", ".md"])
def test_other_outputs_are_held_against_the_results_beside_them(small, folder, tmp_path, suffix):
    folder(small)
    path = tmp_path / f"out{suffix}"
    content = rendered(small, path)
    assert verify(saved(path, content)).word == "VERIFIED"
    number = content.index(b"8", len(content) // 2)
    assert verify(saved(path, content[:number] + b"3" + content[number + 1 :])).word == "EDITED"


def test_html_of_other_results_is_told_and_html_alone_needs_its_results(small, folder, tmp_path):
    page = saved(tmp_path / "page.html", rendered(small, tmp_path / "page.html"))
    with pytest.raises(UsageError, match="name them with --results"):
        verify(page)
    other = folder(sealed({**small, "actions": []}), "other.json")
    found = verify(page, beside=other)
    assert found.word == "INCOMPLETE"
    assert "made from other results" in found.checks[-1].told


def test_a_report_in_german_is_verified_by_what_it_holds(small, tmp_path):
    context = dict.fromkeys(("organisation", "system", "purpose", "owner", "reviewer", "recipient", "next_review"), "")
    german = sealed({**small, "context": {**context, "language": "de", "annexes": []}})
    write(german, [tmp_path / "bericht.pdf"])
    assert verify(tmp_path / "bericht.pdf").word == "VERIFIED"


def test_a_file_that_is_none_of_ours_is_refused(tmp_path, small, folder):
    folder(small)
    with pytest.raises(UsageError, match="nothing that can be verified"):
        verify(saved(tmp_path / "notes.doc", b"hello"))
