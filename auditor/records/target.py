"""A model, loaded: what it reads, what it returns, and how faithfully it was read."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from auditor.records.forms import Activation, BatchNormMode, Clips
from auditor.records.training_step import TrainingStep
from auditor.results.declare import record
from auditor.results.model import Fidelity, InputSpec, ModelPart


@record
class OutputSpec:
    """What of the model's output the loss reads.

    Attributes
    ----------
    activation
        What the model ends in; `none` stands for logits.
    frames
        How many frames of a clip have an output of their own; 0 when a clip has one row.
    name
        Name or index of the output that is read, where the model returns several; `others` are the rest.
    """

    activation: Activation = "none"
    frames: int = 0
    name: str = ""
    others: tuple[str, ...] = ()


@record
class NormInput:
    """What one call of a BatchNorm layer saw, and how its running statistics follow it.

    `mean` and `variance` name the buffers; `rate` is the weight of the batch: new = (1 - rate) old + rate batch.
    With `unbiased` the variance counts n - 1 values (PyTorch), else n (ONNX).
    """

    site: str
    mean: str
    variance: str
    old_mean: Tensor
    old_variance: Tensor
    rate: float
    unbiased: bool
    input: Tensor


@record
class Convolution:
    """How a convolution's kernel walks over its input: one number for each axis of time and space."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    transposed: bool = False


@record
class Layer:
    """One operation of the model that owns parameters, in the order of the forward pass.

    Attributes
    ----------
    kind
        conv1d, conv2d, conv3d, linear, norm, recurrent, embedding, position-embedding, or other.
    parameters
        Names of the parameters it owns, as the model file spells them.
    rows
        How many rows of input one clip sends through the weight of a `linear` layer; 1 means that a batch of one
        clip exposes the layer's input in closed form. None where it has no meaning.
    input_shape, output_shape
        For a batch of one clip; empty where they could not be observed.
    convolution
        How the kernel walks, where it is a convolution.
    reads
        Number of the value that it reads: layers with one number read the very same value, as the first convolution of
        a residual block and its shortcut do. None where that could not be observed.
    behind_weights
        Whether another layer's product with the clip, or with what became of it, was seen before: then it reads
        features, and no pixels.
    """

    index: int
    name: str
    kind: str
    parameters: tuple[str, ...]
    elements: int
    rows: int | None = None
    input_shape: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()
    convolution: Convolution | None = None
    reads: int | None = None
    behind_weights: bool = False


@runtime_checkable
class PublicModel(Protocol):
    """The model as everybody in the federation holds it.

    Called on clips it returns logits. `named_parameters` spells names as the model file does.
    """

    def __call__(self, clips: Clips) -> Tensor:
        """Return logits, differentiable twice: (clip, class), or (clip, frame, class)."""
        ...

    def outputs(self, clips: Clips) -> Any:
        """Return everything that the network returns, as it returns it."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every parameter with its original name."""
        ...

    def with_parameters(self, values: Mapping[str, Tensor]) -> AbstractContextManager[None]:
        """Run on other values of some parameters while active, differentiably in them."""
        ...

    def batchnorm(self, mode: BatchNormMode) -> None:
        """Use running (eval) or batch (train) statistics; running statistics never change."""
        ...

    def dropout(self, on: bool) -> None:
        """Draw dropout masks at every call from torch's generator, or none."""
        ...

    def statistics(self) -> AbstractContextManager[list[NormInput]]:
        """Collect, while active, what every BatchNorm layer with running statistics sees, in order."""
        ...

    def inputs_of(self, parameter: str, clips: Clips) -> tuple[Tensor, Tensor]:
        """Return the (input, output) of the operation that reads `parameter`, differentiable in `clips`.

        Raises
        ------
        LookupError
            No single operation that reads it could be observed.
        """
        ...

    def to(self, device: torch.device) -> "PublicModel":
        """Move the parameters."""
        ...


@runtime_checkable
class SplitModel(Protocol):
    """A public model that may be of two parts: a frozen extractor, and a head that can be asked by itself."""

    def features(self, clips: Clips) -> Tensor | None:
        """Return what the extractor gives the head, differentiable in `clips`; None for a model of one part.

        One row a frame, or one a clip, `(row, ...)`, after the averages that the way into the head takes over space.
        """
        ...

    def on_features(self, features: Tensor) -> AbstractContextManager[None]:
        """Let the head read these features, whatever clips come in, while active; differentiable in them.

        The head's buffers follow the features' precision.

        Raises
        ------
        LookupError
            The model is of one part.
        """
        ...


@record
class Target:
    """A deployer's model, loaded.

    `source` is what the user typed, `format` one of onnx, pytorch, torchvision; `operators` counts ONNX operators
    (or module classes for PyTorch). `seconds` is what loading took. `frozen` names the parameters that the source
    itself keeps from training, `cut` those whose gradient its forward pass cuts, so that no option can train them,
    `dropout` counts the places where training would drop values at random. `parts` are the extractor and the head of a
    two-part model; empty for any other. `step` is what a training step on one clip costs; None where that was not
    counted.
    """

    name: str
    source: str
    format: str
    sha256: str
    model: PublicModel
    input: InputSpec
    classes: int
    layers: tuple[Layer, ...]
    operators: Mapping[str, int]
    fidelity: Fidelity
    seconds: float = 0.0
    output: OutputSpec = OutputSpec()
    frozen: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()
    dropout: int = 0
    parts: tuple[ModelPart, ...] = ()
    step: TrainingStep | None = None

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Every parameter by its original name."""
        return dict(self.model.named_parameters())
