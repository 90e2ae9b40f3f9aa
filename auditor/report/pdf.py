"""The report as PDF/A-3a, tagged, with results.json inside."""

import gc
import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from auditor.errors import AuditError
from auditor.report.page import render, started
from auditor.report.plain import results_digest, to_json

VARIANT = "pdf/a-3a"
_DRAWING = re.compile(r'(<svg\b[^<>]*? aria-label="([^"]*)"[^<>]*>)')
# A layout makes and keeps millions of objects; the collector looks at them after so many new ones.
_OBJECTS = 50_000
_EPOCH = datetime(1980, 1, 1, tzinfo=UTC)


class PdfUnavailableError(AuditError):
    """The libraries that draw a PDF are not on this machine; HTML and JSON need none of them."""

    def __init__(self, missing: str) -> None:
        super().__init__(
            f"no PDF was written ({missing})",
            "install Pango: apt-get install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0",
        )


def to_pdf(results: Mapping[str, Any]) -> tuple[bytes, tuple[str, ...]]:
    """Return the PDF and what WeasyPrint complained of.

    The same results give the same bytes: every date in the file is that of the audit.

    Raises
    ------
    PdfUnavailableError
        Pango or WeasyPrint is missing.
    """
    return draw_pdf(
        render(results, printed=True),
        "results.json",
        to_json(results).encode("ascii"),
        started(results),
        results_digest(results),
    )


def draw_pdf(
    page: str, name: str, source: bytes, moment: datetime | None, identifier: str
) -> tuple[bytes, tuple[str, ...]]:
    """Return a page as PDF with the file that it was made from attached, and what WeasyPrint complained of.

    Raises
    ------
    PdfUnavailableError
        Pango or WeasyPrint is missing.
    """
    weasyprint = _weasyprint()
    moment = moment or _EPOCH
    attached = weasyprint.Attachment(
        file_obj=io.BytesIO(source),
        name=name,
        description="Everything this report was made from",
        created=moment,
        modified=moment,
        relationship="Source",
    )
    with _little_collecting():
        document, complaints = _pages(page)
        with _complaints() as heard, warnings.catch_warnings():
            # WeasyPrint 70 leaves the file of its colour profile to the garbage collector.
            warnings.simplefilter("ignore", ResourceWarning)
            content = document.write_pdf(
                pdf_variant=VARIANT, pdf_identifier=identifier[:32].encode("ascii"), attachments=[attached]
            )
    return content, (*complaints, *heard)


@contextmanager
def _little_collecting() -> Iterator[None]:
    """Let the collector of garbage pass over what was there before, and pass less often: 15% of a layout's time."""
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    if not frozen:
        gc.freeze()
    gc.set_threshold(_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        if not frozen:
            gc.unfreeze()


def layout(results: Mapping[str, Any]) -> tuple[Any, tuple[str, ...]]:
    """Return the pages as a WeasyPrint document, with what WeasyPrint complained of."""
    return _pages(render(results, printed=True))


def _described(page: str) -> str:
    """Give every drawing the title that WeasyPrint takes for its alternate text: it reads no `aria-label`."""
    return _DRAWING.sub(r"\1<title>\2</title>", page)


def _pages(page: str) -> tuple[Any, tuple[str, ...]]:
    weasyprint = _weasyprint()
    fetcher = weasyprint.urls.URLFetcher(allowed_protocols=["data"])
    with _complaints() as heard:
        document = weasyprint.HTML(string=_described(page), url_fetcher=fetcher)
        return document.render(pdf_variant=VARIANT), tuple(heard)


def _weasyprint() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import weasyprint
            import weasyprint.urls
    except (ImportError, OSError) as error:
        # OSError is what cffi raises where a shared library is missing.
        raise PdfUnavailableError(str(error).split("\n")[0][:120]) from None
    return weasyprint


@contextmanager
def _complaints() -> Iterator[list[str]]:
    heard: list[str] = []
    listener = _Listener(heard)
    loggers = [logging.getLogger(name) for name in ("weasyprint", "fontTools")]
    before = [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]
    for logger in loggers:
        logger.handlers[:] = [listener]
        logger.propagate = False
        logger.setLevel(logging.WARNING)
    try:
        yield heard
    finally:
        for logger, (level, propagate, handlers) in zip(loggers, before, strict=True):
            logger.handlers[:] = handlers
            logger.propagate = propagate
            logger.setLevel(level)


class _Listener(logging.Handler):
    """Keeps messages instead of printing them."""

    def __init__(self, heard: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        self._heard.append(record.getMessage()[:300])
