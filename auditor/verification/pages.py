"""Verify what was rendered: pages against a fresh rendering of the results that they were made from."""

import html
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from auditor.errors import UsageError
from auditor.output_formats import FORMATS, suffix_of
from auditor.report import results_digest
from auditor.report.outputs import rendered
from auditor.report.pdf import to_pdf
from auditor.results.version import __version__
from auditor.text import printable
from auditor.verification.check import Verified
from auditor.verification.pdf_objects import PdfFile, first_difference

Results = Mapping[str, Any]
_NAME = "pages are those that its results give"
_CREATOR = f"fl-audit {__version__}"
_GENERATOR = re.compile(rb'<meta name="generator" content="([^"]*)">')
_WORDS = re.compile(r"\s+")
_TAGS = re.compile(r"<style.*?</style>|<[^>]*>", re.DOTALL)


def verify_pdf(pdf: PdfFile, results: Results) -> Iterator[Verified]:
    """Hold every page and every object of a PDF against a fresh one of the results that are attached to it."""
    if pdf.creator != _CREATOR:
        yield Verified(_NAME, None, _drawn_by(pdf.creator))
        return
    fresh_bytes, _ = to_pdf(results)
    if pdf.content == fresh_bytes:
        yield Verified(_NAME, True, f"{len(pdf.pages)} pages, byte for byte")
        return
    fresh = PdfFile.read(fresh_bytes, "the fresh rendering")
    shown, wanted = list(pdf.pages), list(fresh.pages)
    if len(shown) != len(wanted):
        yield Verified(_NAME, False, f"it has {len(shown)} pages, and its results give {len(wanted)}")
        return
    for number, (here, there) in enumerate(zip(shown, wanted, strict=True), start=1):
        told = _difference(here, there)
        if told:
            yield Verified(_NAME, False, f"page {number} {told}")
            return
    place = first_difference(pdf, fresh)
    if place:
        told = (
            "the words are those of its results, and the pages are drawn otherwise "
            f"({printable(place, 120)}): by other libraries, or by hand; render it again with fl-audit report"
        )
        yield Verified(_NAME, None, told)
        return
    yield Verified(_NAME, True, f"{len(shown)} pages, object for object")


def verify_rendering(content: bytes, path: Path, results: Results) -> Iterator[Verified]:
    """Hold a file of any other format against a fresh one of `results`.

    Raises
    ------
    UsageError
        Neither its name nor its content says which format it is of.
    """
    suffix = ".html" if content.lstrip()[:15].lower() == b"<!doctype html>" else suffix_of(path)
    if suffix not in FORMATS or suffix in (".json", ".pdf"):
        raise UsageError(
            f"{printable(str(path))} is nothing that can be verified", f"give a file in one of {', '.join(FORMATS)}"
        )
    fresh = rendered(results, Path(f"-{suffix}"))
    if content == fresh:
        yield Verified(_NAME, True, "byte for byte")
        return
    digest, creator = results_digest(results), _GENERATOR.search(content)
    if suffix == ".html" and creator is not None and creator[1].decode("utf-8", "replace") != _CREATOR:
        yield Verified(_NAME, None, _drawn_by(creator[1].decode("utf-8", "replace")))
        return
    here, there = _text(content), _text(fresh)
    if suffix == ".html" and digest not in here:
        told = f"it does not name the digest {digest}: it was made from other results, in another language, or edited"
        yield Verified(_NAME, None, told)
        return
    yield Verified(_NAME, False, _difference(here, there) or "its words are those of its results, and its code is not")


def _drawn_by(creator: str) -> str:
    return f"they were made by {printable(creator, 40) or 'another program'}, and this is {_CREATOR}: render them again"


def _text(content: bytes) -> str:
    return html.unescape(_TAGS.sub(" ", content.decode("utf-8", "replace")))


def _difference(here: str, there: str) -> str:
    """Say where two texts begin to differ; empty where they have the same words."""
    found, wanted = _WORDS.sub(" ", here).strip(), _WORDS.sub(" ", there).strip()
    if found == wanted:
        return ""
    at = next((k for k, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), min(len(found), len(wanted)))
    begin = max(0, at - 20)
    said, given = (printable(text[begin : at + 40], 60) for text in (found, wanted))
    return f"says '{said}', and its results give '{given}'"
