"""Records in which no two numbers are alike, and every place where a document does not say what its record does."""

import dataclasses
import enum
import itertools
import math
import types
from collections.abc import Mapping
from statistics import median
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from auditor.results.declare import Form
from auditor.results.encode import document
from auditor.results.scores import ClipScore

# What a document adds to a score, told a second time: here lies no use of `derived`.
FOLLOWS = {
    "psnr_best": lambda score: max(score.psnr_frames),
    "psnr_median": lambda score: median(score.psnr_frames),
    "ssim_best": lambda score: max(score.ssim_frames),
    "ssim_median": lambda score: median(score.ssim_frames),
}


def made(hint: Any, numbers: Any) -> Any:
    """Return a value of a type in which no two numbers are alike."""
    bare, marks = (get_args(hint)[0], get_args(hint)[1:]) if get_origin(hint) is Annotated else (hint, ())
    form = next((m for m in marks if isinstance(m, Form) and not m.later), Form())
    if form.cell:
        return next(numbers)
    if form.written_as is not None:
        return document(made(form.written_as, numbers))
    if get_origin(bare) in (Union, types.UnionType):
        return made(next(c for c in get_args(bare) if c is not type(None)), numbers)
    if get_origin(bare) is Literal:
        return get_args(bare)[0]
    if get_origin(bare) is tuple:
        items = get_args(bare)
        return tuple(made(h, numbers) for h in ((items[0],) * 3 if ... in items else items))
    if isinstance(get_origin(bare), type) and issubclass(get_origin(bare), Mapping):
        key = 7 if get_args(bare)[0] is int else "name"
        return {key: made(get_args(bare)[1], numbers)}
    if dataclasses.is_dataclass(bare):
        hints = get_type_hints(bare, include_extras=True)
        return bare(**{f.name: made(hints[f.name], numbers) for f in dataclasses.fields(bare)})
    if isinstance(bare, type) and issubclass(bare, enum.Enum):
        return next(iter(bare))
    simple = {bool: lambda: True, int: lambda: next(numbers), float: lambda: next(numbers) + 0.5}
    return simple[bare]() if bare in simple else "text"


def sample(kind: Any) -> Any:
    return made(kind, itertools.count(100))


def differences(record: Any, written: Any, at: str = "") -> list[str]:
    """Return every place where a document does not say what its record does; by values alone, not by types."""
    if dataclasses.is_dataclass(record):
        names = [f.name for f in dataclasses.fields(record)]
        if isinstance(written, list):  # a row
            return differences([getattr(record, n) for n in names], written, at)
        pairs = [(n, getattr(record, n)) for n in names]
        pairs += [(n, of(record)) for n, of in FOLLOWS.items() if isinstance(record, ClipScore)]
        return [
            d for n, v in pairs for d in (differences(v, written[n], f"{at}.{n}") if n in written else [f"{at}.{n}"])
        ]
    if isinstance(record, Mapping):
        missing = [f"{at}.{k}" for k in record if str(k) not in written]
        kept = [(k, v) for k, v in record.items() if str(k) in written]
        return missing + [d for k, v in kept for d in differences(v, written[str(k)], f"{at}.{k}")]
    if isinstance(record, list | tuple):
        short = [f"{at}: {len(written)} of {len(record)}"] if len(written) != len(record) else []
        return short + [
            d for i, (v, w) in enumerate(zip(record, written, strict=False)) for d in differences(v, w, f"{at}[{i}]")
        ]
    return [] if _same(record, written) else [f"{at}: {record} is written {written}"]


def _same(value: Any, written: Any) -> bool:
    if isinstance(value, enum.Enum):
        return written in (value.name, {"code": value.name, "text": value.value})
    if isinstance(value, float) and math.isfinite(value):
        return isinstance(written, float) and abs(written - value) <= 1e-5 * max(1.0, abs(value))
    if isinstance(value, float):
        return written == (None if math.isnan(value) else "inf" if value > 0 else "-inf")
    return type(written) is type(value) and written == value
