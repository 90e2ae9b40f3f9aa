"""What the user asked for, as the loaders of models take it."""

from typing import Any

from auditor.options import ReadOptions


def reading_of(options: ReadOptions) -> dict[str, Any]:
    """Return how a model is to be read, by the names of `model.reading_options.LoadOptions`."""
    return {
        "input_shape": options.input_shape,
        "layout": options.layout,
        "classes": options.classes,
        "mean": options.mean,
        "std": options.std,
        "value_range": options.range,
        "temporal_pool": options.temporal_pool,
        "output": options.model_output,
        "arguments": options.arg,
        "trust_model": options.trust_model,
        "seed": options.seed,
    }
