"""What the user asked for, as the loaders of models take it."""

from dataclasses import fields
from typing import Any

from auditor.options import ReadOptions


def reading_of(options: ReadOptions) -> dict[str, Any]:
    """Return how a model is to be read, by the names of `model.reading_options.LoadOptions`, which are the options'."""
    return {f.name: getattr(options, f.name) for f in fields(ReadOptions) if f.name != "weights"}
