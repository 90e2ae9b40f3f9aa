"""The templates of every report, with the filters and messages that they use."""

import base64
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
from markupsafe import Markup, escape

from auditor.report import figures, wording
from auditor.report.language import day, say, spoken
from auditor.report.language.messages import ENGLISH, text_of, translated
from auditor.shipped import shipped
from auditor.text import printable

TEMPLATES = "report_templates"
_FONTS = (("Inter", 400), ("Inter", 600), ("Inter", 700), ("JetBrains Mono", 400))
_LONGEST_TEXT = 1200


class Words:
    """The words of `wording` in the language that is spoken."""

    def __getattr__(self, name: str) -> Any:
        return _said(getattr(wording, name))


def _said(words: Any) -> Any:
    if isinstance(words, str):
        return say(words)
    if isinstance(words, Mapping):
        return {key: _said(value) for key, value in words.items()}
    return tuple(map(_said, words))


@lru_cache(maxsize=1)
def stylesheet() -> str:
    """Return the fonts and the one style sheet."""
    faces = (_face(family, weight) for family, weight in _FONTS)
    return "\n".join((*faces, (shipped(TEMPLATES) / "style.css").read_text("utf-8")))


def _face(family: str, weight: int) -> str:
    name = f"{family.lower().replace(' ', '-')}-{weight}.woff2"
    font = base64.b64encode((shipped(TEMPLATES) / "fonts" / name).read_bytes()).decode("ascii")
    source = f"url(data:font/woff2;base64,{font}) format('woff2')"
    return f"@font-face {{ font-family: '{family}'; font-weight: {weight}; src: {source}; }}"


@lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    """Return the templates with their filters; whatever they print is escaped and made inert."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(shipped(TEMPLATES)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_inert,
        extensions=["jinja2.ext.i18n"],
    )
    environment.policies["ext.i18n.trimmed"] = True
    environment.newstyle_gettext = True  # type: ignore[attr-defined]
    environment.globals |= {"gettext": _message, "ngettext": _counted, "_": _message}
    environment.filters |= {
        "db": figures.decibels,
        "fixed": figures.fixed,
        "content_word": figures.content_word,
        "percent": figures.percent,
        "determined": figures.determined,
        "signed": figures.signed,
        "whole": figures.whole,
        "tiny": figures.tiny,
        "duration": figures.duration,
        "of": figures.of,
        "span": figures.span,
        "cell": figures.cell,
        "size": figures.size,
        "short": printable,
        "short_hash": figures.short_hash,
        "recorded": _recorded,
        "day": _day,
    }
    return environment


def _message(english: str, /, **values: Any) -> Markup:
    """A message of a template: its own text is ours and may hold tags, what is filled in is escaped."""
    return Markup(text_of(english)) % _filled(values)


def _counted(one: str, many: str, count: Any, /, **values: Any) -> Markup:
    return Markup(text_of(one, many, count)) % _filled(values)


def _filled(values: Mapping[str, Any]) -> dict[str, Markup]:
    return {name: escape(_inert(value)) for name, value in values.items()}


def _recorded(text: Any, cap: int, tag: str = "span") -> Any:
    """A sentence of the results: translated, or marked as English where the catalogue lacks it; SVG has `tspan`."""
    plain = printable(str(text), 8 * cap)
    found = translated(plain)
    if found is not None:
        return printable(found, cap if spoken() == ENGLISH else cap * 3 // 2)
    return Markup('<{0} lang="en">{1}</{0}>').format(tag, printable(plain, cap))


def _day(moment: datetime, hour: bool = False) -> str:
    return day(moment, spoken(), hour)


def _inert(value: Any) -> Any:
    # Names come from model files: no control, bidi or surrogate character may reach a page. Escaping follows.
    return printable(value, _LONGEST_TEXT) if isinstance(value, str) and not isinstance(value, Markup) else value
