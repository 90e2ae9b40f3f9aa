"""The one model that every other stage sees: clips in [0, 1] go in, logits come out."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from auditor.errors import UsageError
from auditor.model.class_axis import arranged
from auditor.model.double_backward import Substitutes
from auditor.model.forward_constants import ForwardConstant
from auditor.model.forward_pass import first_reading, observe
from auditor.model.known_place import KnownPlace
from auditor.model.long_attention import LongSequences
from auditor.model.numpy_detours import Detours, followed
from auditor.model.onnx.interpreter import OnnxModule
from auditor.model.output import pooled, select
from auditor.model.parameter_values import with_parameters
from auditor.model.pytorch.inner import Archived
from auditor.model.pytorch.unwrapped import uncompiled, without_checkpoints
from auditor.model.recurrent import StepByStep
from auditor.model.stochastic_layers import random_modules
from auditor.model.straight_through import StraightThrough, inference_as_no_grad
from auditor.model.two_part import TwoPart, trained_part
from auditor.records import BatchNormMode, Clips, InputSpec, NormInput, TemporalPool, as_written

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class VideoModel(nn.Module):
    """A network with the normalisation and axis order that it expects: `records.PublicModel` and `records.SplitModel`.

    It owns no tensor of its own: it shares the parameter tables of the network, so that names are the network's and
    `torch.func.functional_call` works with them.

    Parameters
    ----------
    network
        In evaluation mode; reads batches in `spec.layout`.
    spec
        Size, layout and normalisation of a clip.
    substitutes
        True when the network calls functions that have no second derivative, see `twice`.
    pool
        How logits of frames become a clip's, see `output.pooled`; None takes what is usual.
    output
        Name or index of the output that is read, where the network returns several; None takes what is usual.

    Attributes
    ----------
    class_axis
        Which axis of that output holds the classes, see `class_axis.class_axis`; None where it is the usual one.
    sees_through
        Whether slopes go through what forward rounds or cuts, see `straight_through`.
    """

    class_axis: int | None = None
    sees_through: bool = False

    def __init__(
        self,
        network: nn.Module,
        spec: InputSpec,
        substitutes: bool = False,
        pool: TemporalPool | None = None,
        output: str | None = None,
    ) -> None:
        super().__init__()
        object.__setattr__(self, "_network", network)
        # BatchNorm and dropout of a frozen extractor are never switched: clients only run it.
        prefix, trained = trained_part(network)
        object.__setattr__(self, "_trained", trained)
        self._prefix = prefix
        self._parameters = network._parameters
        self._buffers = network._buffers
        self._modules = network._modules
        self._spec = spec
        self._substitutes = substitutes
        self._pool, self._output = pool, output
        low, high = spec.value_range
        std = torch.tensor(spec.std)
        self._scale = (high - low) / std
        self._shift = (low - torch.tensor(spec.mean)) / std
        self._plain = bool((self._scale == 1).all() and (self._shift == 0).all())
        self._statistics = [module for module in trained.modules() if isinstance(module, BATCH_NORMS)]
        self._random = random_modules(trained)
        self._recurrent = any(isinstance(module, nn.RNNBase) for module in network.modules())
        self._batchnorm: BatchNormMode = "eval"
        self._detours = Detours()
        self._read_once: set[str] = set()
        self._places: dict[tuple[str, torch.Size], KnownPlace] = {}

    @property
    def network(self) -> nn.Module:
        """The network itself, which reads inputs in its own layout and normalisation."""
        network = self.__dict__["_network"]
        assert isinstance(network, nn.Module)
        return network

    @property
    def spec(self) -> InputSpec:
        """Size, layout and normalisation of a clip."""
        return self._spec

    @property
    def constants(self) -> tuple[Tensor, ...] | None:
        """What this view brings to the clip itself; None for a file, whose numbers are counted where it is read."""
        return None if isinstance(self.network, OnnxModule) else (self._scale, self._shift)

    @property
    def substitutes(self) -> bool:
        """Whether functions without second derivative are replaced while the network runs."""
        return self._substitutes

    @property
    def leaves_torch(self) -> bool:
        """Whether a pass so far took values out of PyTorch as numbers, see `numpy_detours`."""
        return self._detours.met

    @property
    def constants_behind_numbers(self) -> tuple[ForwardConstant, ...]:
        """What forward made of numbers that are none of the clip, after it took values of the clip out."""
        return self._detours.constants

    @property
    def wanted_output(self) -> str | None:
        """Name or index of the output that was asked for."""
        return self._output

    @property
    def choices(self) -> tuple[TemporalPool | None, str | None]:
        """What was asked for: how logits of frames are pooled, and which output is read."""
        return self._pool, self._output

    def over(self, network: nn.Module, substitutes: bool | None = None) -> "VideoModel":
        """Return the same view of another network, e.g. of a copy in another precision."""
        substitutes = self._substitutes if substitutes is None else substitutes
        other = VideoModel(network, self._spec, substitutes, self._pool, self._output)
        other.class_axis, other.sees_through = self.class_axis, self.sees_through
        other._detours = self._detours
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> "VideoModel":
        """Return the view of a copy of the network, whose tables of parameters it shares."""
        return self.over(copy.deepcopy(self.network, memo))

    def prepare(self, clips: Clips) -> Tensor:
        """Return clips as the network reads them: rescaled, normalised and in its axis order."""
        if not self._plain:
            scale, shift = (v.to(clips).reshape(-1, 1, 1) for v in (self._scale, self._shift))
            clips = clips * scale + shift
        layout = self._spec.layout
        if layout == "NCTHW":
            return clips.transpose(1, 2)
        if layout == "NTHWC":
            return clips.permute(0, 1, 3, 4, 2)
        if layout == "NCHW":
            return clips.flatten(0, 1)
        if layout == "NHWC":
            return clips.flatten(0, 1).permute(0, 2, 3, 1)
        return clips

    def forward(self, clips: Clips) -> Tensor:
        """Return logits `(clip, class)`; `(clip, frame, class)` where the network has some for every frame.

        Where the network reads single frames, those of a clip are averaged unless told otherwise.
        """
        logits = self.logits_of(self.outputs(clips), clips.shape[0])
        # Forward may switch gradients on where nobody asked for any.
        return logits.detach() if logits.requires_grad and not torch.is_grad_enabled() else logits

    def logits_of(self, outputs: Any, clips: int) -> Tensor:
        """Return the logits among what the network returned for a number of clips; see `forward`."""
        return pooled(arranged(select(outputs, self._output), self.class_axis), clips, self._pool)

    def outputs(self, clips: Clips) -> Any:
        """Return everything that the network returns, as it returns it."""
        network = self.network
        x = self.prepare(clips)
        with ExitStack() as stack:
            stack.callback(_restore_gradients, torch.is_grad_enabled())
            stack.enter_context(as_written())
            if self.sees_through:
                stack.enter_context(StraightThrough())
            if isinstance(network, OnnxModule):
                return network(x)
            # Networks may write into what they are given, or view it as one row: a batch of clips is theirs, in order.
            x = x.clone(memory_format=torch.contiguous_format) if self._plain else x.contiguous()
            # Fused attention has no second derivative.
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
            torch.backends.mha.set_fastpath_enabled(False)
            if self._recurrent and x.device.type != "cpu":
                stack.enter_context(StepByStep())
            stack.enter_context(inference_as_no_grad())
            stack.enter_context(without_checkpoints())
            stack.enter_context(uncompiled())
            stack.enter_context(followed(self._detours, slopes=self.sees_through))
            stack.enter_context(LongSequences())
            if self._substitutes:
                stack.enter_context(Substitutes())
            return network(x)

    def features(self, clips: Clips) -> Tensor | None:
        """Return what the extractor of two parts gives the head, a row a frame or clip; None for one part."""
        network = self.network
        return network.features(self.prepare(clips)) if isinstance(network, TwoPart) else None

    def on_features(self, features: Tensor) -> AbstractContextManager[None]:
        """Let the head of two parts read these features while active, whatever clips come in.

        Raises
        ------
        LookupError
            The network is of one part.
        """
        network = self.network
        if isinstance(network, TwoPart):
            return network.given(features)
        raise LookupError("the model is of one part")

    def with_parameters(self, values: Mapping[str, Tensor]) -> AbstractContextManager[None]:
        """Run on other values of some parameters while active, see `parameters`."""
        return with_parameters(self, values)

    def batchnorm(self, mode: BatchNormMode) -> None:
        """Use running (eval) or batch (train) statistics; running statistics never change."""
        trained = self.__dict__["_trained"]
        if mode == "train" and isinstance(trained, Archived) and not trained.switchable:
            raise UsageError(
                "the archive fixes its BatchNorm, so --bn train cannot be audited", "give the model as a factory"
            )
        self._batchnorm = mode
        if isinstance(trained, (OnnxModule, Archived)):
            trained.batch_statistics = mode == "train"
        for module in self._statistics:
            module.training = mode == "train"
            # Without a momentum step torch still counts batches and updates in place, so updates go nowhere.
            module.track_running_stats = mode == "eval"

    def dropout(self, on: bool) -> None:
        """Draw dropout masks at every call from torch's generator, or none."""
        trained = self.__dict__["_trained"]
        if isinstance(trained, OnnxModule):
            trained.drop = on
        for module in self._random:
            module.training = on

    @property
    def drops(self) -> int:
        """How many places of the network drop values at random while it trains."""
        trained = self.__dict__["_trained"]
        return trained.drops if isinstance(trained, OnnxModule) else len(self._random)

    @contextmanager
    def statistics(self) -> Iterator[list[NormInput]]:
        """Collect, while active, what every BatchNorm layer with running statistics sees, in order."""
        seen: list[NormInput] = []
        trained = self.__dict__["_trained"]
        hooks = []
        for name, module in trained.named_modules(prefix=self._prefix.removesuffix(".")):
            if isinstance(module, BATCH_NORMS) and module.running_mean is not None:
                hooks.append(module.register_forward_pre_hook(_recorder(seen, name)))
        if isinstance(trained, OnnxModule):
            trained.norm_inputs = _Prefixed(seen, self._prefix) if self._prefix else seen
        try:
            yield seen
        finally:
            for hook in hooks:
                hook.remove()
            if isinstance(trained, OnnxModule):
                trained.norm_inputs = None

    def inputs_of(
        self, parameter: str, clips: Float[Tensor, "clip frame channel height width"]
    ) -> tuple[Tensor, Tensor]:
        """Return the (input, output) of the operation that reads `parameter`, differentiable in `clips`.

        Under `torch.no_grad` without a graph. For an addition (a position embedding) the input is the other operand.
        Linear layers see one row per token: (rows, features).

        Raises
        ------
        LookupError
            No single operation reads it.
        """
        names = dict(self.named_parameters())
        if parameter not in names:
            raise LookupError(f"the model has no parameter '{parameter}'")
        plain = not torch.is_grad_enabled()
        if plain and parameter in self._read_once:
            seen = first_reading(self, parameter, clips)  # a large network need not run to its end
            if seen is not None:
                return seen.input, seen.output
        place = None if plain else self._places.get((parameter, clips.shape))
        known = None if place is None else place.read(self, names[parameter], clips)
        if known is not None:
            return known
        readings = [r for r in observe(self, clips, slopes=not plain).readings if parameter in r.parameters]
        if len(readings) != 1:
            raise LookupError(f"{len(readings)} operations read '{parameter}'")
        self._read_once.add(parameter)
        place = KnownPlace.of(readings[0], names[parameter])
        if place is not None:
            self._places[parameter, clips.shape] = place
        return readings[0].input, readings[0].output


class _Prefixed(list[NormInput]):
    """Passes on what the head of a two-part network notes, under the names that the whole network gives it."""

    def __init__(self, seen: list[NormInput], prefix: str) -> None:
        super().__init__()
        self._seen, self._prefix = seen, prefix

    def append(self, value: NormInput) -> None:
        """Add to the list of the whole network."""
        start = self._prefix
        named = {"site": start + value.site, "mean": start + value.mean, "variance": start + value.variance}
        self._seen.append(replace(value, **named))  # type: ignore[arg-type]


def _restore_gradients(on: bool) -> None:
    """Undo what a forward pass left on or off by `torch.set_grad_enabled`."""
    if torch.is_grad_enabled() is not on:
        torch.set_grad_enabled(on)


def _recorder(seen: list[NormInput], name: str) -> Any:
    """Return a hook that notes what a BatchNorm module is about to read."""
    path = f"{name}." if name else ""

    def note(module: Any, inputs: tuple[Tensor, ...]) -> None:
        rate = module.momentum
        if rate is None:  # then torch keeps the plain average of all calls so far
            earlier = sum(call.site == name for call in seen)
            rate = 1.0 / (float(module.num_batches_tracked) + earlier + 1.0)
        seen.append(
            NormInput(
                site=name,
                mean=f"{path}running_mean",
                variance=f"{path}running_var",
                old_mean=module.running_mean,
                old_variance=module.running_var,
                rate=rate,
                unbiased=True,
                input=inputs[0],
            )
        )

    return note
