"""Another normalisation of channels: of groups, of batches, or none."""

import math

from torch import Tensor, nn

from auditor.model.surgery.order import calls_of, put
from auditor.model.surgery.refusal import refused

_BATCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_OF_CHANNELS = (*_BATCH, nn.GroupNorm)
# Wu and He (2018, 1803.08494) take 32 groups for hundreds of channels; video nets that are audited are narrower.
_GROUPS = 8


def change_norm(network: nn.Module, value: str, x: Tensor) -> str:
    """Replace every BatchNorm and GroupNorm; scale and shift are kept, running statistics begin anew.

    Raises
    ------
    UsageError
        There is none to replace, or all are of that kind.
    """
    change = f"norm={value}"
    called = {call.name: call for call in calls_of(network, x) if isinstance(call.module, _OF_CHANNELS)}
    if not called:
        raise refused(change, "no BatchNorm or GroupNorm module runs (LayerNorm belongs to transformers, and stays)")
    made = 0
    for name, call in called.items():
        new = _norm(value, call.module, len(call.shape))
        if new is not None:
            put(network, name, new)
            made += 1
    if not made:
        raise refused(change, "all of its normalisation is of that kind")
    return f"{made} layers of normalisation are {'left out' if value == 'none' else f'{value} norm'}"


def _norm(value: str, old: nn.Module, axes: int) -> nn.Module | None:
    """Return what stands in place of a layer of normalisation; None where it is what is wanted."""
    if value == "none":
        return nn.Identity()
    if value == "batch" and isinstance(old, nn.GroupNorm):
        new: nn.Module = _BATCH[axes - 3 if axes > 2 else 0](old.num_channels, affine=old.affine)
    elif value == "group" and isinstance(old, _BATCH):
        new = nn.GroupNorm(math.gcd(_GROUPS, old.num_features), old.num_features, affine=old.affine)
    else:
        return None
    if old.affine:
        new.load_state_dict({"weight": old.weight.detach(), "bias": old.bias.detach()}, strict=False)
    return new
