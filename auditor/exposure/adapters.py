"""What low-rank adapters (LoRA) and learned prompts give away by their structure."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from torch import Tensor

from auditor.records import FederatedProtocol, Layer

# As peft and loralib call the two factors, and diffusion programs.
_FIRST = re.compile(r"lora_(?:A|down)\b")
# Visual prompts (prompt_embeddings, prompt_tokens) and peft's (prompt_encoder.default.embedding.weight).
_PROMPTS = re.compile(r"(?:^|[._])(?:\w*prompts?|prefix)(?:[._]|$)")
_SECOND = {"lora_A": "lora_B", "lora_down": "lora_up"}


def adapter_flags(
    layers: Sequence[Layer], protocol: FederatedProtocol, parameters: Mapping[str, Tensor]
) -> dict[int, str]:
    """Return, by layer index, a sentence on every factor that is sent; empty for models without adapters.

    W + B A with inputs x_t (Hu et al. 2021, arXiv 2106.09685): dA = B^T dW has its rows in span{x_t}, all of it where
    there are no more rows than the rank; dB = dW A^T shows A x_t only. B begins at zero, and dA is zero then.

    Prompts are tokens of their own before a transformer's (Lester et al. 2021, arXiv 2104.08691; Jia et al. 2022, arXiv
    2203.12119). What reaches them comes through attention, as sums over all tokens t:
    W_q' sum_t s_t k_t + W_k' sum_t r_t q_t + W_v' sum_t a_t do_t.
    """
    flags = dict(_of_prompts(layers, protocol, parameters))
    for first, second in _pairs(layers, parameters, frozenset(protocol.sent)):
        a, b = parameters[first.parameters[0]], parameters[second.parameters[0]]
        rank, width = a.shape
        if first.parameters[0] in protocol.sent:
            flags[first.index] = _of_first(first, protocol, rank, zero=not bool(b.detach().any()))
        if second.parameters[0] in protocol.sent:
            flags[second.index] = (
                f"it shows what the first factor makes of its input: {rank} of {width} numbers of every row"
            )
    return flags


def _of_prompts(
    layers: Sequence[Layer], protocol: FederatedProtocol, parameters: Mapping[str, Tensor]
) -> Iterator[tuple[int, str]]:
    for layer in layers:
        names = [name for name in layer.parameters if name in protocol.sent and _PROMPTS.search(name)]
        if layer.kind != "embedding" or not names:
            continue
        value = parameters[names[0]]
        width = value.shape[-1]
        yield (
            layer.index,
            f"its gradient is {value.numel()} numbers, {width} for each of {value.numel() // width} learned tokens; "
            "through attention each of these mixes all tokens of a clip, so that it shows the span of none",
        )


def _pairs(
    layers: Sequence[Layer], parameters: Mapping[str, Tensor], sent: Collection[str]
) -> Iterator[tuple[Layer, Layer]]:
    """Yield the layers of both factors, of which one at least is sent."""
    owners = {layer.parameters[0]: layer for layer in layers if layer.kind == "linear" and len(layer.parameters) == 1}
    for name, first in owners.items():
        found = _FIRST.search(name)
        second = owners.get(_FIRST.sub(_SECOND[found[0]], name)) if found else None
        if second is None or not {name, second.parameters[0]} & set(sent):
            continue
        a, b = parameters[name], parameters[second.parameters[0]]
        if a.ndim == b.ndim == 2 and a.shape[0] == b.shape[1]:
            yield first, second


def _of_first(layer: Layer, protocol: FederatedProtocol, rank: int, *, zero: bool) -> str:
    if zero and protocol.steps == 1:
        return "its gradient is zero, as the second factor is: nothing of the clip is in it at this point of training"
    if layer.rows is None:
        return f"its rows lie in the span of its inputs, of which they fill at most {rank} directions"
    rows = layer.rows * protocol.batch
    if protocol.steps > 1:
        return (
            f"its rows lie in the span of its inputs during {protocol.steps} local steps, {rows} rows each, of which "
            f"they fill at most {rank} directions"
        )
    if rows <= rank:
        return f"its rows span all that its {rows} inputs span, exactly: no more rows than the rank {rank}"
    return f"its rows lie in the span of its {rows} inputs, of which they fill at most {rank} directions"
