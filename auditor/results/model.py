"""The audited model: what it reads, how faithfully it was read, its parts and its layers."""

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal

from auditor.results.declare import Form, Later, LongName, Measured, Name, Paragraph, Seconds, Share, derived, record
from auditor.results.layer_attacks import LayerRecovery
from auditor.results.scores import Exposure
from auditor.terms import Layout


@record
class InputSpec:
    """What the model reads: the size of a clip, its axis order and how pixel values are normalised.

    A pixel p in [0, 1] enters the model as `((low + p * (high - low)) - mean) / std`, per channel.
    """

    frames: int
    channels: int
    height: int
    width: int
    layout: Layout
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    value_range: tuple[float, float] = (0.0, 1.0)
    origin: str = "read from the model"

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(frame, channel, height, width) of one clip."""
        return (self.frames, self.channels, self.height, self.width)


@record
class Unaccounted:
    """How much of a file or forward pass is not accounted for: where leakage may hide that no attack looks at.

    Attributes
    ----------
    numbers
        Float numbers of the file that are neither parameter nor running statistic, and those in parameters that nothing
        reads though training may.
    fixed
        How many of these are known to be fixed: buffers of a module, tables and masks by their contents.
    of_numbers
        Float numbers of the file in all.
    without_gradient
        Numbers in parameters that forward reads but that get no gradient.
    pixels
        What constants of the network make of pixels before the first layer; empty for nothing.
    assumed
        What was assumed about axes and values, each as a few words.
    """

    numbers: int = 0
    fixed: int = 0
    of_numbers: int = 0
    without_gradient: int = 0
    pixels: Name = ""
    assumed: tuple[Name, ...] = ()

    @property
    def share(self) -> float:
        """Share of the file's float numbers of which nothing is known, in [0, 1]."""
        return (self.numbers - self.fixed) / max(1, self.of_numbers)


@record
class Fidelity:
    """How far what we differentiate is what clients train.

    Attributes
    ----------
    parity_max_error
        Largest relative difference of the outputs against ONNX Runtime; None for a model that is PyTorch already.
    gradient_check
        Relative error of a directional derivative against central finite differences.
    double_backward
        True when second derivatives exist and are finite; None where they were not tried, for the network's size.
    batchnorm
        none, kept (the file holds BatchNorm), folded (merged into other weights at export), or maybe folded (nothing
        in the file rules it out).
    batch
        dynamic, unfrozen (the file fixed the batch and the importer released it), or frozen at N.
    upper_bound
        True when the gradients are of another graph than clients train (a folded export): an upper bound at best.
    notes
        Sentences for the report: every approximation, and the line that would remove it.
    origin
        What was read: the kind of file, the program that wrote it, its opset.
    semantics
        eval or train: the mode that the file was written in (a module is always put into eval mode).
    batchnorm_evidence
        How the state of BatchNorm was recognised.
    parity
        Largest relative difference against ONNX Runtime by batch size; empty where it was not measured.
    missing
        Checks that could not be made, each as a sentence.
    reexport
        The line of Python that exports the model faithfully; empty where there is nothing to gain.
    blind
        Why derivatives by pixels are nothing although updates depend on the clip, each as a sentence.
    unaccounted
        How much of the file or forward pass is not accounted for; None in older results and for parts of a model.
    """

    parity_max_error: Measured | None
    gradient_check: Measured | None
    double_backward: bool | None
    batchnorm: str
    batch: str
    upper_bound: bool = False
    notes: tuple[str, ...] = ()
    origin: Later[str] = ""
    semantics: Later[str] = "eval"
    batchnorm_evidence: Later[str] = ""
    parity: Later[Mapping[int, Measured]] = field(default_factory=dict)
    missing: Later[tuple[str, ...]] = ()
    reexport: Later[str] = ""
    blind: Later[tuple[str, ...]] = ()
    unaccounted: Later[Unaccounted | None] = None


@record
class ModelPart:
    """One part of a two-part model: the frozen extractor, or the head that clients train.

    `tensors` and `elements` count its parameters; `fidelity` is of the part alone, without derivatives.
    """

    role: Literal["extractor", "head"]
    name: Name
    source: LongName
    format: str
    sha256: str
    tensors: int
    elements: int
    fidelity: Fidelity


@record
class PartBlock(ModelPart):
    """A part, and whether clients train it."""

    trained: bool


@record
class ParameterCounts:
    """How many tensors and numbers the model holds, and how many of them a client sends."""

    tensors: int
    elements: int
    sent_tensors: int
    sent_elements: int


@record
class ModelBlock:
    """The model of an audit; `operators` counts operators or module classes by name."""

    name: Name
    source: LongName
    format: str
    sha256: str
    classes: int | None
    input: InputSpec
    parameters: ParameterCounts
    operators: Mapping[Name, int]
    fidelity: Fidelity
    seconds_to_load: Later[Seconds] = 0.0
    parts: Later[tuple[PartBlock, ...]] = ()


@record
class AttackedModel:
    """The model of one attack: `parameters` counts its numbers."""

    name: Name
    source: LongName
    format: str
    sha256: str
    classes: int
    parameters: int
    input: InputSpec
    notes: tuple[Paragraph, ...]


@record
class Determinacy:
    """How far the weight gradients of the layers that read one value determine it, once the loss's gradient is known.

    A convolution's dW[o, i, k] = sum_p delta[o, p] x[i, p + k] is linear in its input x, with one matrix for every
    input channel i; the same holds for a Linear over tokens, with one tap. Where delta is known, x follows when the
    matrix has as many independent rows as x has positions. Derived for this project.

    Attributes
    ----------
    layers
        Names of the layers: more than one where several read the very same value, as a block's first convolution and
        its shortcut do; their equations stack.
    equations
        Equations for each input channel: taps times output channels, over groups.
    unknowns
        Positions of an input channel, times clips (and frames that one 2-D net reads one by one).
    rank
        How many of the equations can be independent at most. With a stride, positions of different remainders never
        meet in one equation, so each class of positions counts its own.
    """

    layers: tuple[LongName, ...]
    equations: int
    unknowns: int
    rank: int

    @derived
    def share(self) -> Share:
        """Share of the unknowns that the equations can determine, in [0, 1]."""
        return self.rank / self.unknowns

    @property
    def determined(self) -> bool:
        """True where the equations can determine the whole input."""
        return self.rank == self.unknowns


@record
class LayerBlock:
    """One layer that owns parameters, with what it exposes.

    `flags` are sentences on what its gradient gives away by structure; `reason` says why there is no exposure. `rows`
    are rows of input that one clip sends through a linear weight. `determinacy` counts the equations that its weight's
    gradient, and that of layers which read the same value, gives for its input; None for other kinds and where nothing
    of it is sent. `gradient` is the norm of what the first clip's update holds of it, `recovery` what attacks made of
    it alone and of the rest; None where it was not attacked.
    """

    index: int
    name: str
    kind: str
    parameters: tuple[str, ...]
    elements: int
    sent: bool
    rows: int | None
    input_shape: tuple[int, ...] | None
    output_shape: tuple[int, ...] | None
    exposure: Exposure | None
    flags: tuple[str, ...]
    reason: str | None
    determinacy: Later[Determinacy | None] = None
    gradient: Later[Measured | None] = None
    recovery: Later[LayerRecovery | None] = None


Environment = Mapping[str, Annotated[Any, Form(cell=True)]]
