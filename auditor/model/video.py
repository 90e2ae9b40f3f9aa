"""The one model that every other stage sees: clips in [0, 1] go in, logits come out."""

from contextlib import ExitStack

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from auditor.model.interpreter import OnnxModule
from auditor.model.reading import observe
from auditor.model.twice import Substitutes
from auditor.records import BatchNormMode, Clips, InputSpec, Logits, TemporalPool

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def over_frames(logits: Float[Tensor, "clip frame *answer"], pool: TemporalPool) -> Float[Tensor, "clip *answer"]:
    """Return one answer a clip from those of its frames."""
    if pool == "max":
        return logits.amax(1)
    return logits[:, -1] if pool == "last" else logits.mean(1)


class VideoModel(nn.Module):
    """A network with the normalisation and axis order that it expects; implements `records.PublicModel`.

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
        Where the network answers for every frame: how its frames' logits become a clip's. The mean is what the mean
        of the features would give too, since the last layer is linear.
    """

    def __init__(
        self, network: nn.Module, spec: InputSpec, substitutes: bool = False, pool: TemporalPool = "mean"
    ) -> None:
        super().__init__()
        object.__setattr__(self, "_network", network)
        self._parameters = network._parameters
        self._buffers = network._buffers
        self._modules = network._modules
        self._spec = spec
        self._substitutes = substitutes
        self._pool: TemporalPool = pool
        low, high = spec.value_range
        std = torch.tensor(spec.std)
        self._scale = (high - low) / std
        self._shift = (low - torch.tensor(spec.mean)) / std
        self._plain = bool((self._scale == 1).all() and (self._shift == 0).all())
        self._statistics = [module for module in network.modules() if isinstance(module, BATCH_NORMS)]
        self._recurrent = any(isinstance(module, nn.RNNBase) for module in network.modules())
        self._batchnorm: BatchNormMode = "eval"

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
    def substitutes(self) -> bool:
        """Whether functions without second derivative are replaced while the network runs."""
        return self._substitutes

    @property
    def pool(self) -> TemporalPool:
        """How the logits of frames become those of a clip."""
        return self._pool

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

    def forward(self, clips: Clips) -> Logits:
        """Return logits; where the network answers for single frames, pooled over a clip's frames."""
        network = self.network
        x = self.prepare(clips)
        if isinstance(network, OnnxModule):
            logits = network(x)
        else:
            with ExitStack() as stack:
                # Fused attention and cuDNN's recurrent networks have no second derivative.
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
                stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
                torch.backends.mha.set_fastpath_enabled(False)
                if self._recurrent and x.is_cuda:
                    stack.enter_context(torch.backends.cudnn.flags(enabled=False))
                if self._substitutes:
                    stack.enter_context(Substitutes())
                logits = network(x)
        if isinstance(logits, Tensor) and logits.shape[0] != clips.shape[0]:
            return over_frames(logits.reshape(clips.shape[0], -1, *logits.shape[1:]), self._pool)
        return logits

    def batchnorm(self, mode: BatchNormMode) -> None:
        """Use running (eval) or batch (train) statistics; running statistics never change."""
        network = self.network
        self._batchnorm = mode
        if isinstance(network, OnnxModule):
            network.batch_statistics = mode == "train"
        for module in self._statistics:
            module.training = mode == "train"
            # Without a momentum step torch still counts batches and updates in place, so updates go nowhere.
            module.track_running_stats = mode == "eval"

    def inputs_of(
        self, parameter: str, clips: Float[Tensor, "clip frame channel height width"]
    ) -> tuple[Tensor, Tensor]:
        """Return the (input, output) of the operation that reads `parameter`, differentiable in `clips`.

        For an addition (a position embedding) the input is the other operand. Linear layers see one row per token:
        (rows, features).

        Raises
        ------
        LookupError
            No single operation reads it.
        """
        names = dict(self.named_parameters())
        if parameter not in names:
            raise LookupError(f"the model has no parameter '{parameter}'")
        readings = [r for r in observe(self, clips).readings if parameter in r.parameters]
        if len(readings) != 1:
            raise LookupError(f"{len(readings)} operations read '{parameter}'")
        return readings[0].input, readings[0].output
