"""Putting weights into a network that differs from the one they were saved from: what fits is kept, and told."""

from torch import nn

from auditor.errors import UsageError
from auditor.model.pytorch.fitting import in_order, renamed
from auditor.model.pytorch.weights import Weights
from auditor.text import printable

SHOWN = 4


def fill_in_part(network: nn.Module, weights: Weights) -> tuple[str, ...]:
    """Load of a weights file what has a name and a shape of the network's, and return what was kept and what was not.

    The rest stays as it was drawn.

    Raises
    ------
    UsageError
        Nothing fits.
    """
    own = network.state_dict()
    given, notes = in_order(network, weights) if weights.in_order else renamed(dict(weights.state), own.keys())
    kept = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    parameters = [name for name, _ in network.named_parameters()]
    drawn = [name for name in parameters if name not in kept]
    if len(drawn) == len(parameters):
        raise UsageError(
            f"no tensor of {weights.name} has a name and shape of the model's", "give the weights of this architecture"
        )
    network.load_state_dict(kept, strict=False)
    of = f"{len(parameters) - len(drawn)} of {len(parameters)} parameters are from {weights.name}"
    names = ", ".join(map(printable, drawn[:SHOWN])) + (", …" if len(drawn) > SHOWN else "")
    told = f"{of}; drawn anew: {names}." if drawn else f"{of}."
    return (*weights.notes, *notes, told)
