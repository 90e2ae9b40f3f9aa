"""Where something ends that gets weaker as a number grows: a bracket on a logarithmic scale, or of a ladder."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# None where it could not be told: the search ends there, with what it knows.
Gone = Callable[[float], bool | None]


@dataclass(frozen=True)
class Bracket:
    """The strongest setting at which it is still there, and the weakest at which it is gone.

    None where no such setting was seen. `told` is False where a setting could not be judged before the bracket was as
    narrow as it was to be.
    """

    there: float | None
    gone: float | None
    told: bool = True


def weakest_on_scale(
    gone: Gone, start: float, least: float, most: float, *, factor: float, precision: float
) -> Bracket:
    """Return a bracket of at most `precision` (a ratio above 1): steps by `factor` from the start, then halvings.

    What is gone at a setting is taken to be gone at stronger ones. Ends of the scale are tried, and nothing beyond.
    """
    there: float | None = None
    lost: float | None = None
    x = start
    while there is None or lost is None:
        answer = gone(x)
        if answer is None:
            return Bracket(there, lost, told=False)
        there, lost = (there, x) if answer else (x, lost)
        further = min(most, max(least, x / factor if answer else x * factor))
        if further == x:
            break
        x = further
    if there is None or lost is None:
        return Bracket(there, lost)
    while lost / there > precision:
        x = math.sqrt(lost * there)
        answer = gone(x)
        if answer is None:
            return Bracket(there, lost, told=False)
        there, lost = (there, x) if answer else (x, lost)
    return Bracket(there, lost)


def weakest_on_ladder(gone: Gone, ladder: Sequence[float]) -> Bracket:
    """Return a bracket of neighbours, by halving; the strongest setting is tried first, as often nothing helps."""
    low, high = -1, len(ladder) - 1
    answer = gone(ladder[high])
    if not answer:
        return Bracket(None if answer is None else ladder[high], None, told=answer is not None)
    while high - low > 1:
        middle = (low + high) // 2
        answer = gone(ladder[middle])
        if answer is None:
            return Bracket(ladder[low] if low >= 0 else None, ladder[high], told=False)
        low, high = (low, middle) if answer else (middle, high)
    return Bracket(ladder[low] if low >= 0 else None, ladder[high])
