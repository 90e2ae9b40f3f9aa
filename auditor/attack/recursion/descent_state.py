"""What a descent carries from call to call: gradients, pending equations, and units that are not decided yet."""

from dataclasses import dataclass, field

from torch import Tensor

from auditor.attack.recursion.call_graph import Call
from auditor.attack.recursion.masked_system import Solved


@dataclass(frozen=True)
class Partial:
    """Equations in a value that they do not determine: projections @ value = known, a column for each channel."""

    value: int
    weight: str
    solved: Solved


@dataclass
class Pending:
    """What is pending on the way down; copied where undecided units may make it come back.

    Attributes
    ----------
    cotangents
        The loss's gradient at values, as far as the calls that read them were passed.
    readers
        Weighted calls that read a value, with the gradient at their outputs.
    aliases
        Values that a rearrangement hands on: to which other value, and by which call.
    """

    cotangents: dict[int, Tensor]
    readers: dict[int, list[tuple[Call, Tensor]]] = field(default_factory=dict)
    aliases: dict[int, tuple[int, Call]] = field(default_factory=dict)

    def copy(self) -> "Pending":
        readers = {n: list(held) for n, held in self.readers.items()}
        return Pending(dict(self.cotangents), readers, dict(self.aliases))

    def add(self, value: int, cotangent: Tensor) -> None:
        self.cotangents[value] = self.cotangents[value] + cotangent if value in self.cotangents else cotangent


@dataclass
class Rectified:
    """A rectifier that was passed: its masks, what is undecided of them, and the state just above it.

    `reach` is what the undecided units would add, if open, at the outputs of the weighted calls next below.
    """

    open: Tensor
    undecided: Tensor
    above: Pending
    reach: dict[int, Tensor] = field(default_factory=dict)


class Ended(Exception):
    """The descent goes no further; the text says why, in one clause."""

    def __init__(self, why: str, partial: Partial | None = None) -> None:
        super().__init__(why)
        self.partial = partial
