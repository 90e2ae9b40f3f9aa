"""What crosses between the emulated device and the processor, and how often the processor waits, counted."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace


@dataclass
class Traffic:
    """Counts since the device was made.

    Attributes
    ----------
    operators
        Operators run on the device.
    to_device, to_processor
        Explicit copies of tensors.
    waits
        How often the processor had to wait: `.item()`, `bool()`, `.tolist()`, `nonzero`, copies to the processor.
    """

    operators: int = 0
    to_device: int = 0
    to_processor: int = 0
    waits: int = 0

    def synchronised(self) -> None:
        """Count one wait of the processor."""
        self.waits += 1


TRAFFIC = Traffic()


@contextmanager
def counted() -> Iterator[Traffic]:
    """Yield a record that holds, at the end of the block, what the block alone caused."""
    before, found = replace(TRAFFIC), Traffic()
    yield found
    for name, value in vars(TRAFFIC).items():
        setattr(found, name, value - getattr(before, name))
