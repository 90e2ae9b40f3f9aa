"""What study.json must hold (docs/study.md)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from auditor.errors import UsageError
from auditor.report.shape import (
    MisshapenError,
    count,
    decibel,
    fields,
    many,
    maybe,
    number,
    one_of,
    scalar,
    table,
    text,
)
from auditor.text import printable

SCHEMA = "fl-audit/study/1"

_interval = fields(hits=count, trials=count, low=number, high=number, chance=number, method=text)
_measured = maybe(fields(mean=maybe(decibel), low=maybe(decibel), high=maybe(decibel)))
_picture = maybe(text)

_run = fields(
    {
        "features": maybe(fields(recovered=text, said=text, error=maybe(number), rank=maybe(count), gallery=count)),
        "notes": many(text),
    },
    model=text,
    kind=text,
    weights=text,
    references=count,
    clip=text,
    seed=count,
    role=one_of("own", "null"),
    attack=maybe(text),
    outcome=maybe(text),
    objective=maybe(decibel),
    steps=count,
    tried=many(text),
    score=maybe(table(scalar)),
    enhanced=many(table(scalar)),
)

_cell = fields(
    model=text,
    kind=text,
    weights=text,
    references=count,
    attacks=many(text),
    runs=count,
    clips=count,
    not_attacked=many(text),
    measures=table(_measured),
    recall=maybe(_interval),
    enhanced_recall=maybe(_interval),
    null=fields(
        runs=count,
        psnr=maybe(decibel),
        gain=maybe(decibel),
        recall=maybe(_interval),
        enhanced=maybe(decibel),
        enhanced_recall=maybe(_interval),
    ),
    features=maybe(
        fields(recovered=many(text), largest_error=maybe(number), recall=maybe(_interval), null_recall=maybe(_interval))
    ),
)

_claim = fields(
    name=text,
    text=text,
    note=text,
    measure=text,
    unit=text,
    meaning=text,
    paired=scalar,
    margin=number,
    decision=one_of("supported", "contradicted", "undecided"),
    effect=maybe(
        fields(
            mean=decibel,
            low=maybe(decibel),
            high=maybe(decibel),
            clips=table(maybe(decibel)),
            runs=count,
            seeds=count,
        )
    ),
)

_document = fields(
    schema=text,
    tool=fields(name=text, version=text, preset=text, command=many(text)),
    study=fields(
        title=text, source=text, question=text, file=text, sha256=text, clips=many(text), seeds=many(count), steps=count
    ),
    models=many(fields(name=text, kind=text, source=text, weights=many(text), training_accuracy=maybe(number))),
    attacks=many(fields(name=text, title=text, source=text, configuration=text)),
    measures=many(fields(name=text, unit=text, meaning=text)),
    cells=many(_cell),
    claims=many(_claim),
    pictures=many(
        fields(
            model=text,
            weights=text,
            references=count,
            clip=text,
            original=_picture,
            copy=_picture,
            reconstruction=_picture,
            enhanced=_picture,
            null=_picture,
            enhanced_null=_picture,
        )
    ),
    runs=many(_run),
    missing=fields(left_out=count, failures=many(fields(what=text, reason=text)), units=count, of=count),
    times=fields(started=text, this_run=number, resumed=count, cpu_seconds=number),
)


def validate_study(results: Mapping[str, Any], name: str = "the study") -> None:
    """Raise UsageError, in one line, unless `results` has the shape that docs/study.md gives."""
    try:
        _document(results, "")
    except MisshapenError as error:
        raise UsageError(
            f"{printable(name)}: {error}", "run the study again: the file is not as it was written"
        ) from None


def read_study_results(path: Path) -> dict[str, Any] | None:
    """Return the content of a study.json, checked; None where the file is no study, or cannot be read at all."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        return None
    validate_study(found, str(path))
    return found
