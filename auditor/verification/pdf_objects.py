"""A PDF as pages, an attachment and a graph of objects, read by pypdf; two of them are compared object by object."""

import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from auditor.errors import UsageError
from auditor.text import printable

ATTACHED = "results.json"
_DAMAGES = (
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    RecursionError,
    OverflowError,
    NotImplementedError,
)
_REMEDY = "give a report.pdf that fl-audit wrote"


@dataclass(frozen=True)
class PdfFile:
    """One file, what it holds under the name of results, what its pages say, and which program says that it made it."""

    content: bytes
    attached: bytes
    pages: tuple[str, ...]
    creator: str
    reader: Any

    @classmethod
    def read(cls, content: bytes, name: str) -> "PdfFile":
        """Read a PDF.

        Raises
        ------
        UsageError
            It is damaged or locked, or does not hold exactly one results.json.
        """
        from pypdf import PdfReader
        from pypdf.errors import PyPdfError

        logging.getLogger("pypdf").setLevel(logging.CRITICAL)
        try:
            reader = PdfReader(io.BytesIO(content))
            held = list(reader.attachments.get(ATTACHED, ()))
            pages = tuple(_words(page) for page in reader.pages)
            creator = "" if reader.metadata is None else str(reader.metadata.get("/Creator", ""))
        except (PyPdfError, *_DAMAGES) as error:
            why = f"{type(error).__name__}: {error}"
            raise UsageError(f"{printable(name)} cannot be read as a PDF ({printable(why, 120)})", _REMEDY) from None
        if len(held) != 1:
            raise UsageError(f"{printable(name)} holds {len(held)} files of the name {ATTACHED}, not one", _REMEDY)
        return cls(content, held[0], pages, creator, reader)


def _words(page: Any) -> str:
    """What a page says, notes that readers lay over it among them."""
    notes = (note.get_object().get("/Contents") for note in page.annotations or ())
    return " ".join((page.extract_text(), *(str(text) for text in notes if text is not None)))


def first_difference(a: PdfFile, b: PdfFile) -> str:
    """Return the path of the first object in which two PDFs differ; empty where they draw the same."""
    from pypdf.errors import PyPdfError

    try:
        return next(_differences(a.reader.trailer, b.reader.trailer), "")
    except (PyPdfError, *_DAMAGES) as error:
        return f"objects that cannot be read: {type(error).__name__}"


def _differences(a: Any, b: Any) -> Iterator[str]:
    """Walk both graphs together from their trailers; numbers of objects and how they are packed do not matter."""
    seen: set[tuple[Any, ...]] = set()
    left: list[tuple[str, Any, Any]] = [(key, a.get(key), b.get(key)) for key in ("/Root", "/Info", "/Encrypt")]
    while left:
        place, x, y = left.pop()
        pair = tuple((v.idnum, v.generation) if hasattr(v, "idnum") else None for v in (x, y))
        if None not in pair:
            if pair in seen:
                continue
            seen.add(pair)
        x, y = (v.get_object() if hasattr(v, "get_object") else v for v in (x, y))
        if isinstance(x, dict) and isinstance(y, dict):
            yield from _streams(place, x, y)
            keys = [key for key in {**x, **y} if key not in ("/Length", "/Filter", "/DecodeParms")]
            left += [(f"{place}{key}", _raw(x, key), _raw(y, key)) for key in keys]
        elif isinstance(x, list) and isinstance(y, list) and len(x) == len(y):
            left += [(f"{place}[{k}]", list.__getitem__(x, k), list.__getitem__(y, k)) for k in range(len(x))]
        elif type(x) is not type(y) or x != y:
            yield place


def _streams(place: str, x: Any, y: Any) -> Iterator[str]:
    streams = [hasattr(v, "get_data") for v in (x, y)]
    if streams[0] != streams[1] or (all(streams) and x.get_data() != y.get_data()):
        yield f"{place} (stream)"


def _raw(held: Any, key: Any) -> Any:
    return dict.get(held, key)
