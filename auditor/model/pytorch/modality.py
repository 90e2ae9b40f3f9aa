"""What a network without a stated input reads, told by the first of its layers that owns weights."""

from torch import nn

from auditor.errors import AuditError, NotAuditable, UsageError
from auditor.text import printable

ELSEWHERE = "give a model of clips or frames; one that reads features of clips goes in as --head, with its --extractor"
FLOAT = "audit the float model that it was made from: integers have no gradients, and clients train floats"


def check_not_quantised(network: nn.Module) -> None:
    """Refuse a network whose weights are packed integers.

    Raises
    ------
    NotAuditable
        A layer is of torch's quantised ones.
    """
    for name, module in network.named_modules():
        archived = getattr(module, "original_name", "")
        if (".quantized" in type(module).__module__ or archived) and hasattr(module, "_packed_params"):
            kind = archived or type(module).__name__
            raise NotAuditable(f"layer '{printable(name)}' is quantised ({printable(str(kind), 60)})", FLOAT)


def unknown_size(network: nn.Module, shown: str) -> AuditError:
    """Return the error for a network of which nobody said how large its clips are."""
    first = next((kind for module in network.modules() if (kind := _kind(module)) is not None), None)
    if first == "Embedding":
        return NotAuditable(
            f"{shown} reads numbers of tokens, as models of text do: an embedding comes first", ELSEWHERE
        )
    if first == "Conv1d":
        return NotAuditable(f"{shown} reads sequences, as models of sound do: a 1-D convolution comes first", ELSEWHERE)
    if first in ROWS:
        return NotAuditable(
            f"{shown} reads rows of numbers, as models of tables and features do: a {first} comes first",
            f"{ELSEWHERE}; if it flattens clips itself, give --input-shape, e.g. 3,16,112,112",
        )
    if first == "Conv2d":
        return NotAuditable(
            f"{shown} reads single images, as models of pictures do: a 2-D convolution comes first",
            "give a model of clips; if clients' clips go through it frame by frame, give --input-shape with the frames "
            "of a clip first, e.g. 16,3,112,112 --layout NCHW",
        )
    return UsageError(
        f"the size of a clip is unknown: {shown} has no attribute input_shape", "give --input-shape, e.g. 3,16,112,112"
    )


def of_flat_inputs(network: nn.Module, shown: str, shape: tuple[int, ...]) -> AuditError:
    """Return the error for a network whose stated input has too few axes for a frame."""
    told = unknown_size(network, shown)
    if isinstance(told, NotAuditable) and "single images" not in told.cause:
        return told
    return UsageError(
        f"the model reads inputs of shape {shape}, which is neither a clip nor a frame",
        "give --input-shape with 4 axes (a clip) or 3 (a frame), or a module around the model that takes one clip, see "
        "Several inputs in docs/pytorch.md",
    )


def of_several_inputs(network: nn.Module, shown: str) -> AuditError | None:
    """Return the error for a network of several inputs that reads categories and no pictures; None for any other."""
    kinds = {_kind(module) for module in network.modules()}
    if "Embedding" not in kinds or kinds & {"Conv2d", "Conv3d"}:
        return None
    return NotAuditable(
        f"{shown} reads numbers of categories beside other inputs, as models of tables and text do", ELSEWHERE
    )


ROWS = ("Linear", "RNN", "LSTM", "GRU")
FIRST_LAYERS = (nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, nn.RNN, nn.LSTM, nn.GRU)


def _kind(module: nn.Module) -> str | None:
    """Return which of the first layers a module is, also one of a TorchScript archive; None for any other."""
    archived = getattr(module, "original_name", None)
    names = (layer.__name__ for layer in FIRST_LAYERS if isinstance(module, layer) or archived == layer.__name__)
    return next(names, None)
