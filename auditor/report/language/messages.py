"""What a report says, by its English: in the language that is spoken while it is made."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from auditor.report.language.catalogue import catalogue, filled
from auditor.report.language.numerals import digits_within

ENGLISH = "en"
_SPOKEN: ContextVar[str] = ContextVar("language of the report", default=ENGLISH)


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Make everything that is said inside be said in a language."""
    token = _SPOKEN.set(language)
    try:
        yield
    finally:
        _SPOKEN.reset(token)


def spoken() -> str:
    """Return the language that is spoken here; English where none was chosen."""
    return _SPOKEN.get()


def say(english: str, **values: Any) -> str:
    """Return a message in the language that is spoken, its places `%(name)s` filled with `values`.

    Raises
    ------
    KeyError
        The catalogue lacks the message: a test finds each.
    """
    return filled(text_of(english), values)


def say_many(one: str, many: str, n: int, **values: Any) -> str:
    """As `say`, for a count `n`: `one` where it is 1."""
    return filled(text_of(one, many, n), {"n": n, **values})


def text_of(english: str, many: str = "", n: int = 1) -> str:
    """Return the unfilled text of a message."""
    plural = bool(many) and n != 1
    if spoken() == ENGLISH:
        return many if plural else english
    entry = catalogue(spoken()).messages[english]
    return entry.texts[1 if plural else 0]


def recorded(text: str) -> str:
    """Return a sentence of results.json in the language that is spoken; as it stands where the catalogue lacks it.

    What stands in the places of a sentence is looked up in turn, and its numbers are written as the language does.
    """
    return translated(text) or text


def translated(text: str) -> str | None:
    """As `recorded`, None where the catalogue lacks the sentence."""
    if spoken() == ENGLISH:
        return text
    held = catalogue(spoken())
    for pattern, said in held.sentences:
        match = pattern.fullmatch(text)
        if match is not None:
            places = {name: translated(value) or value for name, value in match.groupdict().items()}
            return filled(said, {name: digits_within(value, spoken()) for name, value in places.items()})
    return None
