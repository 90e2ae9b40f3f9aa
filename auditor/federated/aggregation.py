"""What is seen of several updates: the average over clients under secure aggregation, or over clips."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from auditor.records import Defence, Effect

# As many clips as an audit plans with in one update.
_MOST = 64


@dataclass(frozen=True)
class SecureAggregation(Defence):
    """The server learns the sum over clients, and no single update (Bonawitz et al. 2017, CCS).

    The attacker knows the update of none of them, and their number: so the sum is as good as the average. The client
    that is simulated (`LocalClient`) adds them up, every one with clips of its own; here nothing is left to do.
    """

    name: ClassVar[str] = "secure-aggregation"
    form: ClassVar[str] = f"secure-aggregation:CLIENTS with 2 <= CLIENTS <= {_MOST}"
    effect: ClassVar[Effect] = "sum"
    clients: int

    @classmethod
    def of(cls, number: str) -> Self:
        """Return the defence with so many clients."""
        clients = int(number)
        if not 2 <= clients <= _MOST:
            raise ValueError(number)
        return cls(clients)

    @property
    def told(self) -> str:
        """What it does."""
        return f"only the average of {self.clients} clients' updates is seen"

    def apply(self, update: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the update, which is the average already."""
        return dict(update)

    def simulate(self, ours: Mapping[str, Tensor], sent: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return ours, which is the average already."""
        return dict(ours)

    def __str__(self) -> str:
        return f"{self.name}:{self.clients}"


@dataclass(frozen=True)
class PerClip(SecureAggregation):
    """Treat the gradient of every clip of a batch by itself, and send the average: what stands before acts on each.

    One gradient of `clients` clips, as in DP-SGD (Abadi et al. 2016, arXiv 1607.00133). A client that adds up its own
    clips is simulated as clients of one clip each are.
    """

    name: ClassVar[str] = "per-clip"
    form: ClassVar[str] = f"per-clip:CLIPS with 2 <= CLIPS <= {_MOST}, the clips of a batch"

    @property
    def told(self) -> str:
        """What it does."""
        return f"what stands before is done to every clip's gradient; the average of {self.clients} is sent"
