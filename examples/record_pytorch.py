"""Record one round of a plain PyTorch client, for `fl-audit attack --update` and `fl-audit replay`.

Usage, around local training:

    from record_pytorch import recorded
    with recorded(net, "recorded"):
        train(net)

Each round leaves two state dicts:

    fl-audit replay nets.py:factory --before recorded/before-1.pt --after recorded/after-1.pt --clip mine.npz ...
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import torch
from torch import nn


@contextmanager
def recorded(net: nn.Module, folder: str) -> Iterator[None]:
    """Write the weights before and after what runs inside."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    number = next(n for n in count(1) if not (place / f"after-{n}.pt").exists())
    torch.save(net.state_dict(), place / f"before-{number}.pt")
    yield
    torch.save(net.state_dict(), place / f"after-{number}.pt")
