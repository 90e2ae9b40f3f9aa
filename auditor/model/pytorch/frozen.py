"""Parameters that a factory itself keeps from training."""

from torch import nn


def frozen_parameters(network: nn.Module) -> tuple[tuple[str, ...], str]:
    """Return the names of float parameters with `requires_grad=False`, and a sentence about them.

    Where every parameter is closed the factory prepared the network for use, not for training: then none counts as
    frozen.
    """
    floats = {name: p.requires_grad for name, p in network.named_parameters() if p.is_floating_point()}
    closed = tuple(name for name, trained in floats.items() if not trained)
    if not closed:
        return (), ""
    if len(closed) == len(floats):
        return (), "The factory closed every parameter to gradients (requires_grad=False): all are audited as trained."
    return closed, (
        f"The factory freezes {len(closed)} of {len(floats)} parameters (requires_grad=False): they are not trained "
        "and not sent. Give --trainable '*' to send them too. BatchNorm follows --bn in frozen parts as well."
    )
