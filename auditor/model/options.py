"""How a model is to be read, where its file does not say."""

import torch

from auditor.model.clip_input import input_spec
from auditor.records import InputSpec, Layout, record

CPU = torch.device("cpu")


@record
class LoadOptions:
    """What the user said about a model; None and empty mean: deduce it, or refuse.

    Attributes
    ----------
    input_shape
        One clip in the model's own axis order, with or without the batch.
    layout, mean, std, value_range
        How pixels enter the model.
    classes
        Number of classes.
    seed
        Of random weights, and of the checks.
    """

    input_shape: tuple[int, ...] | None = None
    layout: Layout | None = None
    classes: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    value_range: tuple[float, float] | None = None
    device: torch.device = CPU
    seed: int = 0

    def spec(
        self,
        shape: tuple[int, ...],
        origin: str,
        *,
        layout: Layout | None,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
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
            value_range=self.value_range,
            origin=origin,
        )
