"""Layers to keep back: the answer in a sentence, the command that follows it, and every set that was tried."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from auditor.report import figures
from auditor.report.language import say
from auditor.report.wording import GRADES
from auditor.text import printable

_NAMES = 6
# Options of the audited command that the audit of what is left does not take over: each has one value.
_NOT_AGAIN = ("--layers", "--trainable", "-o", "--output", "--seed")


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedSet:
    """One set of layers: what a trial on one clip made of the rest, and the full battery on all; None where not tried.

    `chosen` is the answer.
    """

    layers: Sequence[str]
    share: float | None
    trial: Mapping[str, Any] | None
    full: Mapping[str, Any] | None
    chosen: bool

    @property
    def last(self) -> Mapping[str, Any] | None:
        """What the stronger of the two made of it."""
        return self.full or self.trial


def kept_back(results: Mapping[str, Any]) -> str:
    """Return what came of looking for layers to keep back, in a sentence; empty where nobody looked."""
    held = _found(results)
    if not held:
        return ""
    before, after = held["before"], held["after"]
    if not held["steps"] and before is not None and before["grade"] in ("RECOGNISABLE", "EXACT"):
        return say("No layers to keep back were looked for: give --layers, or a longer --max-time.")
    if not held["layers"] or before is None or after is None:
        return say("No set of layers to keep back was found.")
    names = ", ".join(printable(name, 40) for name in held["layers"][:_NAMES])
    more = len(held["layers"]) - _NAMES
    told = say(
        "Keep back %(names)s (%(share)s of the numbers that are sent): the best picture falls from %(before)s "
        "(%(shown)s) to %(after)s (%(left)s).",
        names=names + (say(" and %(n)s more layers", n=more) if more > 0 else ""),
        share=figures.percent(held["share"]),
        before=figures.decibels(before["psnr"]),
        after=figures.decibels(after["psnr"]),
        shown=say(GRADES[before["grade"]]).lower(),
        left=say(GRADES[after["grade"]]).lower(),
    )
    if before["lowest"] and before["lowest"] != after["lowest"]:
        came, ends = _weight(before["lowest"]), _weight(after["lowest"])
        told += " " + (
            say("The recursion, which came down to %(came)s, ends at %(ends)s.", came=came, ends=ends)
            if ends
            else say("The recursion, which came down to %(came)s, does not begin.", came=came)
        )
    return told


def following(results: Mapping[str, Any]) -> str:
    """Return the command that audits what is left where the advice is followed; empty where there is none."""
    held, command = _found(results), list(results["tool"].get("command") or ())
    if not held or not held.get("trainable") or command[1:2] != ["scan"]:
        return ""
    options = [part for name in held["trainable"] for part in ("--trainable", name)]
    return shlex.join([*_again(command), *options])


def tried_sets(results: Mapping[str, Any]) -> tuple[TriedSet, ...]:
    """Return every set that was tried, the one of fewest numbers first."""
    held = _found(results)
    if not held:
        return ()
    made: dict[tuple[str, ...], dict[str, Any]] = {}
    for step in held["steps"]:
        one = made.setdefault(tuple(step["layers"]), {"share": step.get("share"), "trial": None, "full": None})
        one["full" if step.get("strict") else "trial"] = step["left"]
    rows = [TriedSet(layers=layers, chosen=list(layers) == list(held["layers"]), **one) for layers, one in made.items()]
    return tuple(sorted(rows, key=lambda row: (row.share is None, row.share or 0.0)))


def _found(results: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return (results.get("layer_attacks") or {}).get("withholding")


def _weight(name: str) -> str:
    return name.removesuffix(".weight")


def _again(command: Sequence[str]) -> Iterator[str]:
    """Yield the parts of a command that hold for what is left too."""
    dropped = False
    for part in command:
        if not dropped and part not in _NOT_AGAIN and not part.startswith(tuple(f"{n}=" for n in _NOT_AGAIN)):
            yield part
        dropped = not dropped and part in _NOT_AGAIN
