"""Another head: one hidden layer before the last linear layer."""

from torch import Tensor, nn

from auditor.model.surgery.order import calls_of, put
from auditor.model.surgery.refusal import refused


def change_head(network: nn.Module, value: str, x: Tensor) -> str:
    """Put a hidden layer as wide as its input, with ReLU, before the last linear layer, which is kept.

    Raises
    ------
    UsageError
        No linear layer comes last.
    """
    linear = [c for c in calls_of(network, x) if isinstance(c.module, nn.Linear)]
    if not linear:
        raise refused(f"head={value}", "the network has no linear head that is a module")
    last = linear[-1]
    assert isinstance(last.module, nn.Linear)
    width = last.module.in_features
    put(network, last.name, nn.Sequential(nn.Linear(width, width), nn.ReLU(), last.module))
    return f"a hidden layer of {width} before {last.name}, drawn anew"
