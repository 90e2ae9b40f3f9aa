"""The models of a comparison: several sources, or one factory with several arguments."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Any

from auditor.comparison.options import ComparedModels
from auditor.errors import UsageError
from auditor.model.surgery import check_change
from auditor.named_paths import names_a_factory
from auditor.options import ScanOptions
from auditor.records import record
from auditor.text import printable

# Every model costs whole audits: more of them are a slip of the keyboard.
MOST = 64
_LONGEST_NAME = 100


@record
class Candidate:
    """One model of a comparison.

    `change` sets it apart from the baseline in a few words; `variant` are fields of `LoadOptions` that options do not
    have. `derived` tells a variant of the baseline, which may turn out to be none that can be built, from a model that
    the user named.
    """

    name: str
    options: ScanOptions
    change: str = ""
    variant: Mapping[str, Any] = field(default_factory=dict)
    derived: bool = False


def candidates_of(options: ScanOptions, models: ComparedModels) -> tuple[Candidate, ...]:
    """Return every model that is compared, the baseline first.

    Raises
    ------
    UsageError
        There is nothing to compare, or what is varied fits no factory.
    """
    ways = {"--vary": models.vary, "--change": models.change, "several models": models.others}
    given = [way for way, held in ways.items() if held]
    if len(given) > 1:
        raise UsageError(f"{given[0]} and {given[1]} were given", "compare one thing at a time")
    if models.change:
        found = _changed(options, models.change)
    else:
        found = _varied(options, models.vary) if models.vary else _several(options, models.others)
    if len(found) < 2:
        raise UsageError("there is nothing to compare", "give several models, --vary NAME=A,B or --change NAME=VALUE")
    if len(found) > MOST:
        raise UsageError(f"{len(found)} models are to be compared, and {MOST} are the most", "give fewer values")
    return _named_apart(found)


def _several(options: ScanOptions, others: Sequence[str]) -> list[Candidate]:
    """Whole models; what is said of two parts is of the first alone."""
    first = f"{options.extractor} + {options.head}" if options.extractor else options.model
    more = [
        replace(options, model=other, extractor=None, head=None, extractor_weights=None, head_weights=None, join=None)
        for other in others
    ]
    partly = {"partly": True} if options.weights is not None and more else {}
    return [Candidate(name=_short(first), options=options, variant=partly)] + [
        Candidate(name=_short(o.model), options=o, change=f"another model: {_short(o.model)}", variant=partly)
        for o in more
    ]


def _varied(options: ScanOptions, vary: Sequence[tuple[str, Sequence[Any]]]) -> list[Candidate]:
    """Every combination of the values, the first values first: that is the baseline."""
    if options.extractor or not _takes_arguments(options.model):
        raise UsageError(
            "--vary needs a model that is built with arguments",
            "give path/file.py:factory, torchvision:NAME or timm:NAME",
        )
    fixed = dict(options.arg)
    clash = next((name for name, _ in vary if name in fixed), None)
    if clash is not None:
        raise UsageError(f"--arg and --vary both give {clash}", "give it once")
    names = [name for name, _ in vary]
    found: list[Candidate] = []
    for values in itertools.product(*(held for _, held in vary)):
        given = dict(zip(names, values, strict=True))
        told = ", ".join(f"{name}={_spelled(value)}" for name, value in given.items())
        found.append(
            Candidate(
                name=printable(told, _LONGEST_NAME),
                options=replace(options, arg=(*options.arg, *given.items())),
                change=told,
                variant={"partly": True},
                derived=bool(found),
            )
        )
    return found


def _changed(options: ScanOptions, changes: Sequence[tuple[str, Sequence[Any]]]) -> list[Candidate]:
    """The model as it is, and the model under each change."""
    if options.extractor:
        raise UsageError("--change does not say which part it is for", "give one MODEL")
    found = [Candidate(name=_short(options.model), options=options)]
    for name, values in changes:
        for value in values:
            check_change(name, _spelled(value))
            told = f"{name}={_spelled(value)}"
            made = {"change": (name, _spelled(value))}
            found.append(
                Candidate(name=printable(told, _LONGEST_NAME), options=options, change=told, variant=made, derived=True)
            )
    return found


def _takes_arguments(source: str) -> bool:
    return names_a_factory(source) or source.startswith(("torchvision:", "timm:"))


def _spelled(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _short(source: str) -> str:
    """Return the last part of a path, with the factory that is named in it."""
    return printable(source.rstrip("/").rpartition("/")[2] or source, _LONGEST_NAME)


def _named_apart(found: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Number models whose short names are the same."""
    seen: dict[str, int] = {}
    named = []
    for one in found:
        seen[one.name] = count = seen.get(one.name, 0) + 1
        named.append(one if count == 1 else replace(one, name=_free(one.name, count, found)))
    return tuple(named)


def _free(name: str, count: int, found: Sequence[Candidate]) -> str:
    taken = {one.name for one in found}
    return next(n for k in itertools.count(count) if (n := f"{name} ({k})") not in taken)
