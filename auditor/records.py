"""The records that travel through the pipeline: this page explains the program.

    load      generate     observe      invert              enhance        score         render
    Target -> Probe     -> Update    -> Reconstruction   -> Enhanced    -> Finding    -> Audit -> files

Clips are float32 in [0, 1], shaped `(clip, frame, channel, height, width)`; a single clip drops the first axis.
Tensors inside records are detached. Records never change: use `dataclasses.replace`.
"""

import enum
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, dataclass_transform, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, kw_only_default=True, eq_default=False, field_specifiers=(field,))
def record(cls: type[_T]) -> type[_T]:
    """Make a class a frozen dataclass with keywords only, compared by identity."""
    return dataclass(frozen=True, slots=True, kw_only=True, eq=False)(cls)


Clips: TypeAlias = Float[Tensor, "clip frame channel height width"]
Clip: TypeAlias = Float[Tensor, "frame channel height width"]
Labels: TypeAlias = Int[Tensor, " clip"]
Logits: TypeAlias = Float[Tensor, "clip class"]

Layout = Literal["NCTHW", "NTCHW", "NTHWC", "NCHW", "NHWC"]
BatchNormMode = Literal["eval", "train"]
Algorithm = Literal["FedSGD", "FedAvg"]
TemporalPool = Literal["each", "mean", "last", "max"]
DropoutMode = Literal["off", "on"]
Join = Literal["none", "sequence", "flatten", "pool", "pool-sequence", "mean"]
Activation = Literal["none", "softmax", "log-softmax", "sigmoid"]
# What a clip is trained as: a class, the set of classes that are present, or a value.
Label: TypeAlias = int | float | tuple[int, ...]


# ----------------------------------------------------------------------------------------------------------- load


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
    """

    index: int
    name: str
    kind: str
    parameters: tuple[str, ...]
    elements: int
    rows: int | None = None
    input_shape: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()


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
        True when second derivatives exist and are finite.
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
    """

    parity_max_error: float | None
    gradient_check: float | None
    double_backward: bool
    batchnorm: str
    batch: str
    upper_bound: bool = False
    notes: tuple[str, ...] = ()
    origin: str = ""
    semantics: str = "eval"
    batchnorm_evidence: str = ""
    parity: Mapping[int, float] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    reexport: str = ""


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
class ModelPart:
    """One part of a two-part model: the frozen extractor, or the head that clients train.

    `tensors` and `elements` count its parameters; `fidelity` is of the part alone, without derivatives.
    """

    role: Literal["extractor", "head"]
    name: str
    source: str
    format: str
    sha256: str
    tensors: int
    elements: int
    fidelity: Fidelity


@record
class Target:
    """A deployer's model, loaded.

    `source` is what the user typed, `format` one of onnx, pytorch, torchvision; `operators` counts ONNX operators
    (or module classes for PyTorch). `seconds` is what loading took. `frozen` names the parameters that the source
    itself keeps from training, `dropout` counts the places where training would drop values at random. `parts` are the
    extractor and the head of a two-part model; empty for any other.
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
    dropout: int = 0
    parts: tuple[ModelPart, ...] = ()

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Every parameter by its original name."""
        return dict(self.model.named_parameters())


# ------------------------------------------------------------------------------------------------------- generate


@record
class Probe:
    """A clip with a known truth.

    Attributes
    ----------
    kind
        real, canary (carries a payload), texture, or user.
    clip
        At the model's resolution.
    native
        The same frames before they were resized to the model's input: the truth for super-resolution.
    payload
        The bits of a canary; None for other kinds.
    decode
        Reads a canary's bits from any clip of the model's shape, without knowing the payload; None for other kinds.
    source, licence
        Where the clip comes from, and under what terms.
    """

    name: str
    kind: Literal["real", "canary", "texture", "user"]
    clip: Clip
    native: Clip
    sha256: str
    source: str
    licence: str = ""
    payload: tuple[int, ...] | None = None
    decode: Callable[[Clip], tuple[int, ...]] | None = None


# -------------------------------------------------------------------------------------------------------- observe


@record
class FederatedProtocol:
    """What a client trains on and sends.

    `trainable` are glob patterns over parameter names, `frozen` names that are left out nevertheless; `sent` the names
    that match and therefore travel. `dropout` on draws masks that the attacker does not know. With `send_buffers` the
    running statistics of BatchNorm travel too, as in FedAvg; without, clients keep them (FedBN, Li et al. 2021).

    Attributes
    ----------
    algorithm
        FedSGD sends the gradient of the mean loss. FedAvg (McMahan et al. 2017) trains for `epochs` over the clips in
        batches of `local_batch` (0: all at once) by SGD with step size `rate` and `momentum` (no dampening, no weight
        decay), and sends the public weights less its own. FedSGD does not use these four.
    """

    algorithm: Algorithm = "FedSGD"
    batch: int = 1
    loss: str = "cross-entropy"
    labels: Literal["distinct", "equal"] = "distinct"
    batchnorm: BatchNormMode = "eval"
    trainable: tuple[str, ...] = ("*",)
    sent: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    dropout: DropoutMode = "off"
    send_buffers: bool = False
    epochs: int = 1
    local_batch: int = 0
    rate: float = 0.01
    momentum: float = 0.0

    @property
    def local_batches(self) -> int:
        """Batches of one epoch; 1 for FedSGD."""
        if self.algorithm == "FedSGD" or self.local_batch == 0:
            return 1
        return -(-self.batch // self.local_batch)

    @property
    def steps(self) -> int:
        """SGD steps behind one update; 1 for FedSGD."""
        return 1 if self.algorithm == "FedSGD" else self.epochs * self.local_batches

    @property
    def scale(self) -> float:
        """How many mean gradients an update adds up to: 1 for FedSGD; for FedAvg each step counts once for every later
        one that its momentum reaches, rate * sum_(t = 1..steps) (1 - momentum^t) / (1 - momentum).
        """
        if self.algorithm == "FedSGD":
            return 1.0
        return self.rate * sum(self.momentum**k * (self.steps - k) for k in range(self.steps))


@record
class BatchStatistics:
    """Mean and variance per channel of what a BatchNorm layer saw."""

    mean: Float[Tensor, " channel"]
    variance: Float[Tensor, " channel"]


@runtime_checkable
class Client(Protocol):
    """A client's local computation: public code, so the attacker can repeat it on clips of its own choice.

    `protocol` is how it computes: for an attacker who does not know the details, what it assumes.
    """

    @property
    def protocol(self) -> FederatedProtocol:
        """How the client trains and what it sends."""
        ...

    def __call__(self, clips: Clips, labels: Tensor, *, create_graph: bool = False) -> dict[str, Tensor]:
        """Return the update by parameter: the gradient of the mean loss, or for FedAvg how far weights went down.

        `labels` are as `targets` makes them. With `create_graph` the result is differentiable in `clips` and `labels`.
        """
        ...

    def under(self, protocol: FederatedProtocol) -> "Client":
        """Return this client under another protocol."""
        ...

    def at(self, weights: Mapping[str, Tensor]) -> "Client":
        """Return this client with other public weights: a later round, or a point that an attack supposes.

        Parameters that are not named keep their values. Weights that need a gradient stay in the graph.
        """
        ...

    def targets(self, labels: Sequence[Label]) -> Tensor:
        """Return the labels of a batch in the form that the loss reads."""
        ...

    def simulate(
        self, clips: Clips, labels: Tensor, *, create_graph: bool = False
    ) -> tuple[dict[str, Tensor], dict[str, BatchStatistics]]:
        """Return the gradient and, where buffers are sent, the statistics of this batch by BatchNorm layer."""
        ...

    def batch_statistics(self, buffers: Mapping[str, Tensor], clips: Clips) -> dict[str, BatchStatistics]:
        """Return the statistics of the batch behind buffers that were sent; `clips` only give the shape."""
        ...


@record
class Update:
    """What leaves the client. It carries nothing of the truth but what the gradients and buffers themselves tell.

    `gradients` are those of one step for FedSGD. For FedAvg they are w0 - wT, the public weights less the client's:
    the sign of a gradient, the size of the learning rate, and the rounding of weights in float32 (about 6e-8 of a
    weight, which may be much of a small update). `buffers` are BatchNorm running statistics after the last step, by
    name; empty where clients keep them.
    """

    gradients: Mapping[str, Tensor]
    batch: int
    algorithm: Algorithm = "FedSGD"
    precision: str = "float32"
    buffers: Mapping[str, Tensor] = field(default_factory=dict)


@record
class Knowledge:
    """What this attacker is assumed to know besides the public model and the update.

    Attributes
    ----------
    threat_model
        Letter of the SoK of Carletti et al. (USENIX Security 2025); C is public model + training details.
    labels
        What each clip is trained as, if that is assumed known (or was restored from the update), else None.
    loss
        What clients minimise.
    reference
        Frames of the same scene, `(frame, channel, height, width)`, oldest first; None for R0.
    epochs, local_batch, rate, momentum
        How a FedAvg client trains, as in `FederatedProtocol`; None where this attacker does not know. Without meaning
        for FedSGD.
    """

    clip_shape: tuple[int, int, int, int]
    batch: int
    classes: int
    threat_model: str = "C"
    labels: tuple[Label, ...] | None = None
    labels_from: str = "restored from the update"
    loss: str = "cross-entropy"
    reference: Clip | None = None
    epochs: int | None = None
    local_batch: int | None = None
    rate: float | None = None
    momentum: float | None = None


# --------------------------------------------------------------------------------------------------------- invert


@record
class View:
    """All that an attack may look at. The probe is not in it: the attacker is blind by type."""

    target: Target
    client: Client
    update: Update
    knowledge: Knowledge

    @property
    def one_gradient(self) -> bool:
        """Whether the update is known to be one gradient at the public weights, up to its size."""
        if self.update.algorithm == "FedSGD":
            return True
        k = self.knowledge
        known = k.epochs is not None and k.local_batch is not None
        return known and self._training().steps == 1

    @property
    def scale(self) -> float | None:
        """The size of the update in mean gradients (see `FederatedProtocol.scale`); None where it is not known."""
        if self.update.algorithm == "FedSGD":
            return 1.0
        k = self.knowledge
        if k.epochs is None or k.local_batch is None or k.rate is None or k.momentum is None:
            return None
        return self._training().scale or None

    def _training(self) -> FederatedProtocol:
        k = self.knowledge
        return FederatedProtocol(
            algorithm="FedAvg",
            batch=self.update.batch,
            epochs=k.epochs or 1,
            local_batch=k.local_batch or 0,
            rate=k.rate or 0.0,
            momentum=k.momentum or 0.0,
        )


class Clock:
    """Time left, read from a monotonic clock."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._start = time.monotonic()

    @property
    def used(self) -> float:
        """Seconds since the clock was made."""
        return time.monotonic() - self._start

    @property
    def left(self) -> float:
        """Seconds until the budget ends; negative after that."""
        return self.seconds - self.used


@record
class Budget:
    """What one attack on one update may spend.

    The attack stops at `seconds` or `steps`, whichever comes first, and calls `progress` with the fraction done. A
    search keeps its best clips at `checkpoints` moments of every descent, for the auditor's budget curve.
    """

    seconds: float
    steps: int
    progress: Callable[[float], None] = field(default=lambda fraction: None)
    checkpoints: int = 0


class Outcome(enum.Enum):
    """How an attack ended; the text says what that means for the reader."""

    SOLVED = "solved in closed form, and the solution reproduces the update"
    UNVERIFIED = "solved in closed form, but the solution does not reproduce the update: treated as a failure"
    CONVERGED = "the objective reached a plateau"
    OUT_OF_BUDGET = "the budget ended while the objective was still falling: more time may recover more"
    DIVERGED = "the objective became infinite or not a number"


@record
class Trace:
    """One point of an attack's course: steps taken, seconds used, and the attacker's own objective."""

    step: int
    seconds: float
    objective: float


@record
class Checkpoint:
    """A search after so many steps; clips are on the CPU, in half precision.

    `clips` are the best so far and `objective` is theirs, by the attacker's own measure; `current` is the iterate.
    """

    step: int
    seconds: float
    objective: float
    clips: Clips
    current: Clips


@record
class Reconstruction:
    """What an attack made of an update.

    Attributes
    ----------
    clips
        In [0, 1]; the best iterate by the attacker's own objective.
    labels
        The labels the attack worked with.
    certificate
        Named numbers that the attacker can check without the truth, e.g. the relative residual of the update
        re-simulated from `clips`; empty for attacks that have none.
    trace
        The course of the chosen restart.
    restart_objectives
        Final objective of every restart, in order.
    checkpoints
        The chosen restart on its way, as far as the budget asked for it.
    """

    attack: str
    clips: Clips
    labels: tuple[Label, ...]
    outcome: Outcome
    objective: float
    certificate: Mapping[str, float] = field(default_factory=dict)
    trace: tuple[Trace, ...] = ()
    restart_objectives: tuple[float, ...] = ()
    steps: int = 0
    seconds: float = 0.0
    seed: int = 0
    notes: tuple[str, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()


@record
class LabelGuess:
    """Labels that a restoration rule read off an update, one per clip, most certain first."""

    rule: str
    labels: tuple[Label, ...]
    certain: bool


@record
class Skipped:
    """Something that did not run, and why: a value, counted and shown, never silence.

    `because` is not-applicable, out-of-budget, unsupported or failed.
    """

    stage: str
    what: str
    because: Literal["not-applicable", "out-of-budget", "unsupported", "failed"]
    reason: str
    remedy: str = ""


# -------------------------------------------------------------------------------------------------------- enhance


@record
class Enhanced:
    """Reconstructed frames after super-resolution; detail in them is inferred by a prior, not recovered."""

    method: str
    scale: int
    clip: Clip
    seconds: float


# ---------------------------------------------------------------------------------------------------------- score


@record
class Interval:
    """A proportion with its 95% confidence interval, beside what chance would give."""

    hits: int
    trials: int
    low: float
    high: float
    chance: float
    method: str

    @property
    def above_chance(self) -> bool:
        """True when the whole interval lies above chance."""
        return self.low > self.chance


class Grade(enum.IntEnum):
    """What an attack demonstrated, weakest first."""

    NOT_SHOWN = 0
    GIST = 1
    RECOGNISABLE = 2
    EXACT = 3


@record
class CopyScore:
    """What an attacker's reference frames are by themselves, without any update, and what came of them.

    Attributes
    ----------
    psnr
        Of the copy that is nearest to the truth, dB.
    gain
        PSNR of the reconstruction less that.
    motion_gain
        The largest motion gain of any copy: 0 for a frame that is held, more where frames are interpolated.
    motion_beyond
        Motion gain of the reconstruction less that, dB.
    followed
        How far the reconstruction x went from the copy c towards the truth y: (x - c)(y - c) / |y - c|^2. 0 is where it
        started, 1 the truth; what goes elsewhere adds nothing.
    pasted
        Whether the reconstruction is the copy, to within a tenth of the copy's squared error.
    bits
        Canary bits that a copy reads correctly, or None.
    """

    psnr: float
    gain: float
    motion_gain: float
    motion_beyond: float
    followed: float
    pasted: bool
    bits: int | None = None


@record
class ClipScore:
    """One reconstruction against one truth; dB for PSNR, [-1, 1] for SSIM.

    Attributes
    ----------
    psnr_frames, ssim_frames
        Per frame, in order.
    baselines
        Whole-clip PSNR of each blind guess, by name (grey, gallery mean, best constant, reference copy).
    gain
        Whole-clip PSNR less the best blind baseline.
    motion
        PSNR of the motion residual (each frame less the clip's mean frame).
    motion_gain
        `motion` less what a motionless clip would score.
    rank
        1 is the true clip on top of the gallery; `gallery` is how many candidates there were.
    bits
        Canary bits read correctly, or None. With reference frames chance is what their copy reads.
    copy
        The reference frames by themselves; None for an attacker without.
    motion_correlation
        Pearson's correlation of frame differences, in [-1, 1].
    rank_same_scene, same_scene
        Rank among the gallery's `same_scene` candidates of the same camera alone; None where there are none.
    perceptual, perceptual_blind
        Perceptual distance (0 equal, about 1 another scene) of the reconstruction, and of the blind guess that looks
        most like the truth; None where it was not measured.
    lpips, lpips_blind
        The same by LPIPS, where the user has its weights.
    embedding_rank
        As `rank`, by embeddings of a public network; None where it was not measured, as for canaries.
    """

    psnr: float
    psnr_frames: tuple[float, ...]
    ssim_frames: tuple[float, ...]
    baselines: Mapping[str, float]
    gain: float
    motion: float
    motion_gain: float
    rank: int
    gallery: int
    bits: Interval | None = None
    copy: CopyScore | None = None
    motion_correlation: float = 0.0
    rank_same_scene: int | None = None
    same_scene: int = 0
    perceptual: float | None = None
    perceptual_blind: float | None = None
    lpips: float | None = None
    lpips_blind: float | None = None
    embedding_rank: int | None = None


@record
class Retrieval:
    """How well reconstructions point to their true clips in a gallery, over several of them.

    Attributes
    ----------
    first, fifth
        Recall@1 and Recall@5; chance is 1/N and 5/N, the truth counted in N.
    mean_rank, chance_rank
        The mean, and what it is by chance: (N + 1) / 2.
    tail
        How often chance does as well or better in the mean rank: the exact one-sided probability.
    independent
        False where the audited model is built on the network that embeds: no evidence then.
    """

    gallery: int
    first: Interval
    fifth: Interval
    mean_rank: float
    chance_rank: float
    tail: float
    independent: bool = True


# --------------------------------------------------------------------------------------------------------- expose


@record
class Exposure:
    """Mode exposure of a set of layers: what a linear attacker with a natural-clip prior could know.

    `psnr` is the predicted PSNR (dB) at noise `sigma` (relative to the root-mean-square of the layer's gradient),
    `ceiling` the same at float32 rounding, `prior` with no update at all.
    """

    psnr: float
    ceiling: float
    prior: float
    sigma: float


# --------------------------------------------------------------------------------------------------------- render


@record
class Audit:
    """Everything that was found; `results` is the content of results.json (schema `fl-audit/results/1`)."""

    results: Mapping[str, Any]
