"""What an attack costs that is no step of gradient matching: counted from shapes, never by a clock."""

from dataclasses import dataclass

# Steps of gradient matching below which its objective has hardly left its start; measured on the three-layer nets of
# the benchmarks.
LEAST_STEPS = 60


@dataclass(frozen=True)
class AttackCost:
    """What one run of an attack computes.

    Attributes
    ----------
    multiplications
        Of decompositions in float64, before anything is searched.
    gradients
        How many gradients of the client cost as much as all else before the search.
    step
        How many gradients of the client cost as much as one step of the search.
    steps
        After so many steps nothing is gained that a reader would see; 0 for an attack without a search.
    """

    multiplications: float
    gradients: float
    step: float = 0.0
    steps: int = 0
