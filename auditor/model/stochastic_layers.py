"""What a network draws at random while it trains: dropout, and layers skipped at random."""

from torch import nn

# Layers of torchvision and timm that skip a branch at random; known by class name, so that neither is imported.
BY_NAME = ("StochasticDepth", "DropPath")


def random_modules(network: nn.Module) -> list[nn.Module]:
    """Return the modules that draw at random in training mode and do nothing else there.

    Dropout called as a function is switched by the mode of the module that calls it, and cannot be switched alone.
    """
    return [module for module in network.modules() if _draws(module)]


def _draws(module: nn.Module) -> bool:
    if type(module).__name__ in BY_NAME:
        return True
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    if isinstance(module, (nn.MultiheadAttention, nn.RNNBase)):
        return float(module.dropout) > 0
    return False
