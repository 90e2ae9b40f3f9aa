"""Position embeddings of tokens: learned, fixed, or none."""

import re
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from auditor.model.surgery.refit import refit
from auditor.model.surgery.refusal import refused

# As libraries and papers name them: pos_embed, position, positional_encoding, embed_positions.
_NAME = re.compile(r"(^|_)pos(itions?|itional|_)?", re.IGNORECASE)
_WAVELENGTH = 10_000.0


def change_positions(network: nn.Module, value: str, x: Tensor) -> str:
    """Make position tables parameters (learned), sines and cosines that nobody trains (fixed), or zeros (none).

    The sines are those of Vaswani et al. (2017, 1706.03762). A table that becomes learned begins at its own values.

    Raises
    ------
    UsageError
        No table is told by its name, or all are so already.
    """
    change = f"positions={value}"
    tables = list(_tables(network))
    if not tables:
        raise refused(change, "no parameter or buffer is named as positions (pos_embed, position, …)")
    changed = [f"{owner}.{key}".lstrip(".") for owner, module, key in tables if _set(module, key, value)]
    if not changed:
        raise refused(change, f"positions are {value} already")
    refit(network, x, change)
    return f"{', '.join(changed)}: {value}"


def _tables(network: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    for name, module in network.named_modules():
        for key in (*module._parameters, *module._buffers):
            table = module._parameters.get(key, module._buffers.get(key))
            named = _NAME.search(key) or (isinstance(module, nn.Embedding) and _NAME.search(name.rpartition(".")[2]))
            if named and table is not None and table.is_floating_point() and table.dim() >= 2:
                yield name, module, key


def _set(module: nn.Module, key: str, value: str) -> bool:
    """Set one table, and tell whether that changed anything."""
    learned = module._parameters.get(key) is not None
    table = (module._parameters[key] if learned else module._buffers[key]).detach()  # type: ignore[union-attr]
    if value == "learned":
        if learned:
            return False
        del module._buffers[key]
        module.register_parameter(key, nn.Parameter(table.clone()))
        return True
    wanted = torch.zeros_like(table) if value == "none" else sinusoids(table.shape).to(table)
    if not learned and torch.equal(wanted, table):
        return False
    if learned:
        del module._parameters[key]
        module.register_buffer(key, wanted)
    else:
        module._buffers[key] = wanted
    return True


def sinusoids(shape: tuple[int, ...] | torch.Size) -> Tensor:
    """Return a table of that shape, the last axis features and all others positions in their order.

    Feature 2i of position p is sin(p / 10000^(2i/d)), feature 2i + 1 the cosine.
    """
    count, width = int(torch.Size(shape[:-1]).numel()), shape[-1]
    rates = _WAVELENGTH ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(count, dtype=torch.float64)[:, None] * rates
    table = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)[:, :width]
    return table.reshape(shape).float()
