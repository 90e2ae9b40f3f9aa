"""Numbers as a reader sees them; what was not measured is a dash, never a zero."""

import math
from typing import Any

from auditor.report.language import digits, say, spoken
from auditor.results.scores import CLEAR_CONTENT, NO_CONTENT
from auditor.text import printable

MISSING = "—"

_INFINITE = {"inf": math.inf, "-inf": -math.inf}


def real(value: Any) -> float | None:
    """Return a JSON number, an infinite one included, as a float; None for anything else.

    >>> real("inf"), real(None), real(3)
    (inf, None, 3.0)
    """
    if isinstance(value, str):
        return _INFINITE.get(value)
    return None if value is None or isinstance(value, bool) else float(value)


def decibels(value: Any, signed: bool = False, unit: bool = True) -> str:
    """Return decibels with one decimal.

    >>> decibels(31.24), decibels(-2, signed=True), decibels("inf"), decibels(None)
    ('31.2 dB', '−2.0 dB', 'inf dB', '—')
    """
    number = real(value)
    if number is None:
        return MISSING
    shown = "inf" if math.isinf(number) else f"{abs(number):.1f}"
    sign = "−" if number < 0 and shown != "0.0" else "+" if signed and shown != "0.0" else ""
    return _local(f"{sign}{shown} dB" if unit else f"{sign}{shown}")


def determined(counted: Any) -> str:
    """Return the share of a layer's input that equations can fix, from its equations and unknowns.

    >>> determined({"share": 1.0}), determined({"share": 0.5512}), determined({"share": 0.0004}), determined(None)
    ('all', '55%', 'under 1%', '—')
    """
    share = None if counted is None else real(counted["share"])
    if share is None:
        return MISSING
    return say("all") if share >= 1.0 else say("under 1%%") if share < 0.01 else percent(min(share, 0.99))


def content_word(value: Any) -> str:
    """Return whether what moves can be made out at this `content`, as far as the number tells.

    >>> content_word(0.95), content_word(0.8), content_word(0.2), content_word(None)
    ('visible', 'look at it', 'not visible', '')
    """
    number = real(value)
    if number is None:
        return ""
    if NO_CONTENT <= number < CLEAR_CONTENT:
        return say("look at it")
    return say("visible") if number >= CLEAR_CONTENT else say("not visible")


def fixed(value: Any, places: int = 2) -> str:
    """Return a number with a fixed count of decimals.

    >>> fixed(0.987), fixed(None)
    ('0.99', '—')
    """
    number = real(value)
    return MISSING if number is None else _local(f"{number:.{places}f}".replace("-", "−"))


def signed(value: Any, places: int = 1) -> str:
    """Return a number with its sign.

    >>> signed(0.25, 2), signed(-3), signed(None)
    ('+0.25', '−3.0', '—')
    """
    number = real(value)
    return MISSING if number is None else _local(f"{number:+.{places}f}".replace("-", "−"))


def percent(value: Any) -> str:
    """Return a share in [0, 1] as percent, with a decimal where it is small.

    >>> percent(0.5), percent(1 / 64), percent(0.001)
    ('50%', '1.6%', '0.1%')
    """
    number = real(value)
    if number is None:
        return MISSING
    shown = f"{100 * number:.1f}" if 0 < number < 0.0995 else f"{100 * number:.0f}"
    return say("%(share)s%%", share=_local(shown))


def whole(value: Any) -> str:
    """Return a count with thin groups of three.

    >>> whole(1843210)
    '1,843,210'
    """
    number = real(value)
    return MISSING if number is None else _local(f"{number:,.0f}")


def tiny(value: Any) -> str:
    """Return an error or residual in the shortest form that keeps its size.

    >>> tiny(3.1e-7), tiny(0.0052), tiny(None)
    ('3.1e-07', '0.0052', '—')
    """
    number = real(value)
    return MISSING if number is None else _local(f"{number:.2g}")


def duration(value: Any) -> str:
    """Return seconds in the unit that fits.

    >>> duration(6.5), duration(412.6), duration(7300)
    ('6.5 s', '6 min 53 s', '2 h 01 min')
    """
    number = real(value)
    if number is None or math.isinf(number):
        return MISSING
    if number < 60:
        return _local(f"{number:.1f} s")
    minutes, seconds = divmod(round(number), 60)
    return f"{minutes} min {seconds:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def of(interval: Any) -> str:
    """Return hits of trials, or a dash.

    >>> of({"hits": 6, "trials": 6})
    '6 of 6'
    """
    return (
        MISSING if interval is None else say("%(hits)s of %(trials)s", hits=interval["hits"], trials=interval["trials"])
    )


def span(interval: Any) -> str:
    """Return an interval and its chance level as words, or a dash.

    >>> span({"low": 0.61, "high": 1.0, "chance": 0.015625})
    '61% to 100%, chance 1.6%'
    """
    if interval is None:
        return MISSING
    low, high, chance = (percent(interval[key]) for key in ("low", "high", "chance"))
    return say("%(low)s to %(high)s, chance %(chance)s", low=low, high=high, chance=chance)


def cell(value: Any) -> str:
    """Return any scalar of the results as the text of one cell.

    >>> cell(None), cell(True), cell(0.25), cell("exact")
    ('—', 'yes', '0.25', 'exact')
    """
    if value is None or value == "":
        return MISSING
    if isinstance(value, bool):
        return say("yes") if value else say("no")
    if isinstance(value, list):
        return ", ".join(map(cell, value)) or MISSING
    if isinstance(value, float):
        return _local(f"{value:.4g}")
    return str(value)


def size(shape: Any) -> str:
    """Return a shape as its extents.

    >>> size([8, 3, 32, 32])
    '8 × 3 × 32 × 32'
    """
    return " × ".join(str(extent) for extent in shape) if shape else MISSING


def short_hash(digest: str) -> str:
    """Return the first twelve digits of a hash, as every output shortens it.

    >>> short_hash("6c51fb3af791c0ffee")
    '6c51fb3af791'
    """
    return printable(digest, 400)[:12]


def _local(number: str) -> str:
    """A formatted number as the language that is spoken writes it."""
    return digits(number, spoken())
