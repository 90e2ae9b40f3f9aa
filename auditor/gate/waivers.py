"""Exceptions that somebody answers for, until a day: read from fl-audit-waivers.toml, matched with alerts."""

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from auditor.errors import UsageError
from auditor.gate.rules import rule_named
from auditor.gate.toml_file import read_toml
from auditor.results.judgement import AlertBlock, WaiverBlock, WaiverState
from auditor.text import did_you_mean, printable

WAIVERS_FILE = Path("fl-audit-waivers.toml")
_EXAMPLE = "write e.g. expires = 2027-03-31"
_HASH = re.compile(r"[0-9a-fA-F]{12,64}")
_SHORT_HASH = re.compile(r"[0-9a-fA-F]{6,11}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """One exception.

    Attributes
    ----------
    rule
        Name of the rule.
    model
        At least 12 digits of the model's SHA-256, or a glob for its name or source.
    layer
        Glob for what the alert is about: a layer, or a family of attacks.
    reason, owner
        Why it is accepted, and who answers for it.
    expires
        The last day that it holds.
    """

    rule: str
    model: str
    layer: str
    reason: str
    owner: str
    expires: datetime.date

    def about(self, model: Mapping[str, Any]) -> bool:
        """Tell whether it is about an audited model."""
        if _HASH.fullmatch(self.model):
            return str(model["sha256"]).startswith(self.model.lower())
        return any(fnmatchcase(str(model[name]), self.model) for name in ("name", "source"))

    def covers(self, alert: AlertBlock) -> bool:
        """Tell whether it covers an alert of its model, were it not for the day."""
        return alert.rule == self.rule and fnmatchcase(alert.subject, self.layer)


def read_waivers(path: Path) -> tuple[Waiver, ...]:
    """Return the waivers of a file: `[[waiver]]` tables with every key of `Waiver`.

    Raises
    ------
    UsageError
        The file is missing or no TOML, a key is unknown or lacking, or a value is no such value.
    """
    document = read_toml(path)
    for name in document:
        if name != "waiver":
            raise UsageError(
                f"{_named(path)}: '{printable(name, 60)}' is unknown{did_you_mean(name, ['waiver'])}",
                "write every exception as a table [[waiver]]",
            )
    tables = document.get("waiver", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"{_named(path)}: waiver is no list of tables", "write [[waiver]] above each")
    return tuple(_waiver(table, f"{_named(path)}: [[waiver]] {n}") for n, table in enumerate(tables, start=1))


def _waiver(table: Mapping[str, Any], where: str) -> Waiver:
    known = [f.name for f in fields(Waiver)]
    for name in table:
        if name not in known:
            raise UsageError(
                f"{where}: '{printable(name, 60)}' is unknown{did_you_mean(name, known)}", f"use {', '.join(known)}"
            )
    for name in known:
        if name not in table:
            raise UsageError(f"{where} has no {name}", f"give all of {', '.join(known)}")
    texts = {name: _text(table[name], f"{where}: {name}") for name in known if name != "expires"}
    rule_named(texts["rule"], where)
    return Waiver(**texts, expires=_day(table["expires"], where))


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{where} is no text, or empty", "say it in words: a waiver without it is refused")
    return value


def _day(value: Any, where: str) -> datetime.date:
    if isinstance(value, datetime.datetime):
        return value.date()
    if isinstance(value, datetime.date):
        return value
    try:
        return datetime.date.fromisoformat(value)
    except (TypeError, ValueError):
        raise UsageError(f"{where}: expires is no day ({printable(str(value), 40)})", _EXAMPLE) from None


def covering(
    alerts: Sequence[AlertBlock], waivers: Sequence[Waiver], model: Mapping[str, Any], today: datetime.date
) -> dict[int, int]:
    """Return the place of the first waiver that holds today and covers an alert, by the place of the alert."""
    found: dict[int, int] = {}
    for place, alert in enumerate(alerts):
        held = [n for n, w in enumerate(waivers) if w.about(model) and w.covers(alert) and w.expires >= today]
        if held and alert.state != "fixed":
            found[place] = held[0]
    return found


def waiver_blocks(
    waivers: Sequence[Waiver], alerts: Sequence[AlertBlock], model: Mapping[str, Any], today: datetime.date
) -> tuple[WaiverBlock, ...]:
    """Return what became of every waiver."""
    return tuple(
        WaiverBlock(
            **{f.name: getattr(w, f.name) for f in fields(w) if f.name != "expires"},
            expires=w.expires.isoformat(),
            state=_state(w, sum(a.waiver == n for a in alerts), model, today),
            alerts=sum(a.waiver == n for a in alerts),
        )
        for n, w in enumerate(waivers)
    )


def stale(waivers: Sequence[WaiverBlock], model: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a sentence for every waiver that needs a look."""
    what = {"expired": "expired on {}: what it covered is open again", "unused": "(until {}) covers nothing: remove it"}
    short = "names too few digits of the model's SHA-256 and covers nothing: give 12"
    return tuple(
        f"the waiver of {w.rule} for {w.layer} ({w.owner}) "
        + (short if w.state == "unused" and _too_short(w.model, model) else what[w.state].format(w.expires))
        for w in waivers
        if w.state in what
    )


def _state(waiver: Waiver, used: int, model: Mapping[str, Any], today: datetime.date) -> WaiverState:
    if not waiver.about(model):
        # Nobody calls a model by the first digits of its own hash.
        return "unused" if _too_short(waiver.model, model) else "elsewhere"
    if waiver.expires < today:
        return "expired"
    return "used" if used else "unused"


def _too_short(named: str, model: Mapping[str, Any]) -> bool:
    """Tell whether digits are of an audited model's SHA-256, and too few to name it."""
    return bool(_SHORT_HASH.fullmatch(named)) and str(model["sha256"]).startswith(named.lower())


def _named(path: Path) -> str:
    return printable(str(path), 200)
