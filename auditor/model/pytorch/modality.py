"""What a network without a stated input reads, told by the first of its layers that owns weights."""

from torch import nn

from auditor.errors import AuditError, NotAuditable, UsageError

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
        home = type(module).__module__
        if ".quantized" in home and hasattr(module, "_packed_params"):
            raise NotAuditable(f"layer '{name}' is quantised ({type(module).__name__})", FLOAT)


def unknown_size(network: nn.Module, shown: str) -> AuditError:
    """Return the error for a network of which nobody said how large its clips are."""
    first = next((m for m in network.modules() if isinstance(m, FIRST_LAYERS)), None)
    if isinstance(first, nn.Embedding):
        return NotAuditable(
            f"{shown} reads numbers of tokens, as models of text do: an embedding comes first", ELSEWHERE
        )
    if isinstance(first, nn.Conv1d):
        return NotAuditable(f"{shown} reads sequences, as models of sound do: a 1-D convolution comes first", ELSEWHERE)
    if isinstance(first, (nn.Linear, nn.RNNBase)):
        return NotAuditable(
            f"{shown} reads rows of numbers, as models of tables and features do: a {type(first).__name__} comes first",
            f"{ELSEWHERE}; if it flattens clips itself, give --input-shape, e.g. 3,16,112,112",
        )
    cause = f"the size of a clip is unknown: {shown} has no attribute input_shape"
    if isinstance(first, nn.Conv2d):
        return UsageError(
            f"{cause}, and its first layer reads single images",
            "give --input-shape with the frames of a clip first, e.g. 16,3,112,112 --layout NCHW",
        )
    return UsageError(cause, "give --input-shape, e.g. 3,16,112,112")


FIRST_LAYERS = (nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, nn.RNNBase)
