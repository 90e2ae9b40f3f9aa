"""How a model is to be read, where its file does not say."""

from pathlib import Path
from typing import Any

import torch

from auditor.model.clip_input import input_spec
from auditor.records import InputSpec, Join, Layout, TemporalPool, record

CPU = torch.device("cpu")


@record
class LoadOptions:
    """What the user said about a model; None and empty mean: deduce it, or refuse.

    Attributes
    ----------
    input_shape
        One clip in the model's own axis order, with or without the batch.
    layout, mean, std, range
        How pixels enter the model.
    classes
        Number of classes.
    temporal_pool
        How logits of frames become a clip's; None takes the mean where the network reads single frames, and keeps
        each where it answers for every frame of a clip.
    model_output
        Name or index of the output that the loss reads, where the model returns several.
    arg
        (name, value) pairs for a factory, or for an architecture of torchvision or timm.
    trust_model
        Whether files that run code when they are read may be read.
    onnx_ops
        Python files that declare operators, see `operators.custom`. They are executed.
    join
        How an extractor's features enter a head, see `two_part.joined`; None takes the only way that fits.
    seed
        Of random weights, and of the checks.
    change
        (name, value) of a change of the network itself, see `surgery`; None leaves it as it is.
    partly
        Take of the weights file what fits by name and shape, and leave the rest as the factory drew it.
    """

    input_shape: tuple[int, ...] | None = None
    layout: Layout | None = None
    classes: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    range: tuple[float, float] | None = None
    temporal_pool: TemporalPool | None = None
    model_output: str | None = None
    arg: tuple[tuple[str, Any], ...] = ()
    trust_model: bool = False
    onnx_ops: tuple[Path, ...] = ()
    join: Join | None = None
    device: torch.device = CPU
    seed: int = 0
    change: tuple[str, str] | None = None
    partly: bool = False

    def spec(
        self,
        shape: tuple[int, ...],
        origin: str,
        *,
        layout: Layout | None,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        value_range: tuple[float, float] | None = None,
    ) -> InputSpec:
        """Describe the input; what the user said goes before what the source publishes.

        Raises
        ------
        UsageError
            See `clip_input.input_spec`.
        """
        return input_spec(
            shape,
            layout=layout,
            mean=self.mean if self.mean is not None else mean,
            std=self.std if self.std is not None else std,
            value_range=self.range if self.range is not None else value_range,
            origin=origin,
        )
