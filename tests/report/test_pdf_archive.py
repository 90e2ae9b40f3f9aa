"""What ISO 19005-3 (PDF/A-3, level A) demands, as far as it can be read off the objects by independent readers."""

import io
import re
import sys

import pytest

from auditor.report.page import render
from auditor.report.pdf import to_pdf
from auditor.report.plain import plain, to_json

from .sample import sample_results

pypdf = pytest.importorskip("pypdf")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
SAMPLE = sample_results("WARN", findings=1, frames=2, layers=2)
_FORBIDDEN = ("/JavaScript", "/JS", "/AA", "/XFA", "/Launch", "/Movie", "/Sound")


@pytest.fixture(scope="module")
def content():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", "1763825645")
        return to_pdf(plain(SAMPLE))[0]


@pytest.fixture(scope="module")
def reader(content):
    return pypdf.PdfReader(io.BytesIO(content), strict=True)


@pytest.fixture(scope="module")
def root(reader):
    return reader.trailer["/Root"]


@pytest.fixture(scope="module")
def objects(reader):
    """Every object that the file holds."""
    return [reader.get_object(n) for n in range(1, int(reader.trailer["/Size"]))]


def dictionaries(objects):
    return [o for o in objects if isinstance(o, dict)]


def elements(root):
    """Every element of the structure tree."""
    left, found = [root["/StructTreeRoot"]], []
    while left:
        element = left.pop()
        found.append(element)
        kids = element.get("/K", [])
        for kid in kids if isinstance(kids, list) else [kids]:
            held = kid.get_object() if hasattr(kid, "get_object") else kid
            if isinstance(held, dict) and "/S" in held:
                left.append(held)
    return found


def test_same_results_give_the_same_bytes(content, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1763825645")
    assert to_pdf(plain(SAMPLE))[0] == content


def test_results_are_attached_as_they_are_written(reader):
    assert reader.attachments["results.json"] == [to_json(plain(SAMPLE)).encode("ascii")]


def test_it_says_what_it_is_and_for_whom(root, reader):
    said = root["/Metadata"].get_object().get_data().decode("utf-8")
    assert re.search(r'pdfaid:part="3"', said)
    assert re.search(r'pdfaid:conformance="A"', said)
    assert root["/Lang"] == "en"
    assert reader.metadata["/Title"] in said
    assert root["/ViewerPreferences"]["/DisplayDocTitle"]


def test_colours_have_a_meaning(root):
    (intent,) = root["/OutputIntents"]
    intent = intent.get_object()
    assert intent["/S"] == "/GTS_PDFA1"
    profile = intent["/DestOutputProfile"].get_object()
    assert profile["/N"] == 3
    assert profile.get_data()[36:40] == b"acsp"


def test_every_font_is_embedded_and_its_text_can_be_copied(objects):
    fonts = [o for o in dictionaries(objects) if o.get("/Type") == "/Font"]
    described = [o for o in dictionaries(objects) if o.get("/Type") == "/FontDescriptor"]
    assert described
    assert all({"/FontFile", "/FontFile2", "/FontFile3"} & set(o) for o in described)
    assert all("/ToUnicode" in font for font in fonts if font["/Subtype"] == "/Type0")
    assert {font["/Subtype"] for font in fonts} <= {"/Type0", "/CIDFontType0", "/CIDFontType2"}


def test_it_is_tagged_and_pictures_and_tables_are_told(root):
    assert root["/MarkInfo"]["/Marked"]
    found = elements(root)
    kinds = [element.get("/S") for element in found]
    assert {"/Document", "/H1", "/H2", "/P", "/Table", "/TH", "/TD", "/L", "/Figure"} <= set(kinds)
    told = [bool(element.get("/Alt")) for element in found if element.get("/S") == "/Figure"]
    assert told.count(True) > 70
    # Without a text are marks beside words and the keys of legends: what is hidden from readers of the page too.
    hidden = re.findall(r"<svg[^>]*aria-hidden=\"true\"", render(plain(SAMPLE), printed=True))
    assert told.count(False) == len(hidden)
    pages = root["/Pages"]["/Kids"]
    assert all("/StructParents" in page.get_object() for page in pages)


def test_the_attachment_is_told_to_be_the_source(root):
    (number,) = {file.idnum for file in root["/AF"]}
    file = root["/AF"][0].get_object()
    assert number == root["/Names"]["/EmbeddedFiles"]["/Names"][1].idnum
    assert file["/AFRelationship"] == "/Source"
    assert file["/UF"] == file["/F"] == "results.json"
    stream = file["/EF"]["/F"].get_object()
    assert stream["/Subtype"] == "/application/json"
    assert "/ModDate" in stream["/Params"]


def test_nothing_runs_and_nothing_is_locked(reader, objects, content):
    assert "/Encrypt" not in reader.trailer
    assert len(reader.trailer["/ID"]) == 2
    for held in dictionaries(objects):
        assert not set(_FORBIDDEN) & set(held)
        assert held.get("/Filter") != "/LZWDecode"
        assert held.get("/Interpolate") in (None, False)
    assert content[:8] == b"%PDF-1.7"
    assert all(byte > 127 for byte in content[content.index(b"\n") + 2 :][:4])


def test_links_can_be_printed(objects):
    links = [o for o in dictionaries(objects) if o.get("/Subtype") == "/Link"]
    assert links
    assert all(int(link["/F"]) & 4 and not int(link["/F"]) & 0b100010 for link in links)


def test_another_reader_finds_no_fault_and_the_same_metadata(content):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "warnoptions", [])
        pikepdf = pytest.importorskip("pikepdf")
    with pikepdf.open(io.BytesIO(content)) as pdf:
        problems = pdf.check_pdf_syntax() if hasattr(pdf, "check_pdf_syntax") else pdf.check()
        assert list(problems) == []
        with pdf.open_metadata() as metadata:
            assert metadata.pdfa_status == "3A"
        assert list(pdf.attachments) == ["results.json"]


def test_its_words_are_found_by_yet_another_reader(content):
    high_level = pytest.importorskip("pdfminer.high_level")
    said = high_level.extract_text(io.BytesIO(content), page_numbers=[0])
    assert "WARN" in said
    assert "What was not tested" in said
