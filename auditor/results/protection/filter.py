"""What `fl-audit filter --json` prints: the least epsilon that a filter has, and what it is not."""

from typing import Literal

from auditor.results.declare import Measured, Name, record

FILTER: Literal["fl-audit/filter/1"] = "fl-audit/filter/1"


@record
class FilteredTensor:
    """One tensor of the update: root mean square of the noise on its entries, and how much of the canary passes."""

    name: Name
    entries: int
    noise: Measured
    passed: Measured


@record
class FilterDocument:
    """A filter as a black box.

    `proven` holds whatever the outputs' distribution, `if_normal` where they are normal as they seem (None: they do not
    seem so); both None where epsilon is unbounded, as the canary is seen without any noise. `faults`: what it is not.
    """

    schema: Literal["fl-audit/filter/1"]
    filter: Name
    samples: int
    norm: Measured
    delta: Measured
    seed: int
    unbounded: bool
    proven: Measured | None
    if_normal: Measured | None
    claimed: Measured | None
    contradicted: bool
    tensors: tuple[FilteredTensor, ...]
    faults: tuple[str, ...]
