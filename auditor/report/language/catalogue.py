"""A catalogue of messages as gettext writes it (.po), read without gettext's compiled form."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from auditor.shipped import shipped

FOLDER = "report_templates/languages"
# Sentences of results.json: no code names them, they are recognised.
RECORDED = "recorded"
_KEYWORD = re.compile(r'(msgctxt|msgid_plural|msgid|msgstr\[(\d)\]|msgstr) (".*")')
_PLACE = re.compile(r"%\((\w+)\)s|%%")


@dataclass(frozen=True, slots=True)
class Entry:
    """One message: its English, its plural if it has one, and its texts in the language (two with a plural)."""

    context: str
    english: str
    plural: str
    texts: tuple[str, ...]


@dataclass(slots=True)
class _Draft:
    parts: dict[str, str] = field(default_factory=dict)
    last: str = ""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The messages of one language: those that code names by their English, and sentences that results.json holds."""

    messages: Mapping[str, Entry]
    sentences: tuple[tuple[re.Pattern[str], str], ...]


@lru_cache(maxsize=4)
def catalogue(language: str) -> Catalogue:
    """Return the catalogue of a language other than English.

    Raises
    ------
    ValueError
        The file is no catalogue.
    """
    folder, _, name = FOLDER.partition("/")
    text = (shipped(folder) / name / f"{language}.po").read_text("utf-8")
    found = list(entries(text))
    named = {entry.english: entry for entry in found if not entry.context}
    told = [e for e in found if e.context == RECORDED]
    # The longest first: what is said most exactly counts.
    ordered = sorted(told, key=lambda e: (-len(_PLACE.sub("", e.english)), e.english))
    return Catalogue(named, tuple((_pattern(e.english), e.texts[0]) for e in ordered))


def entries(text: str) -> Iterator[Entry]:
    """Yield the entries of a .po file, but its header."""
    draft = _Draft()
    for number, line in enumerate((*text.splitlines(), ""), start=1):
        if not line.strip() or line.startswith("#"):
            yield from _entry(draft)
            draft = _Draft() if draft.parts else draft
        elif line.startswith('"') and draft.last:
            draft.parts[draft.last] += json.loads(line)
        elif (match := _KEYWORD.fullmatch(line)) is not None:
            draft.last = match[1]
            draft.parts[draft.last] = json.loads(match[3])
        else:
            raise ValueError(f"line {number} of the catalogue cannot be read")


def _entry(draft: _Draft) -> Iterator[Entry]:
    english = draft.parts.get("msgid", "")
    if english:
        texts = tuple(v for k, v in draft.parts.items() if k.startswith("msgstr"))
        yield Entry(draft.parts.get("msgctxt", ""), english, draft.parts.get("msgid_plural", ""), texts)


def _pattern(english: str) -> re.Pattern[str]:
    """A sentence with places as an expression that finds what stands in them."""
    made, at = "", 0
    for place in _PLACE.finditer(english):
        made += re.escape(english[at : place.start()])
        made += "%" if place[1] is None else f"(?P<{place[1]}>.+?)"
        at = place.end()
    return re.compile(made + re.escape(english[at:]), re.DOTALL)


def filled(text: str, values: Mapping[str, Any]) -> str:
    """Return a message with its places filled.

    >>> filled("%(n)s of 100%%", {"n": 3})
    '3 of 100%'
    """
    return text % dict(values)
