"""Which checks a network's size allows while it is loaded: chosen by counted operations, never by a clock."""

from auditor.records import TrainingStep, record

# Floating-point operations of all checks together: half a minute of one core that does 5e10 of them a second.
MOST_OPERATIONS = 1.6e12
# Checks in passes, each as long as a forward pass; a backward pass is two, and float64 counts twice. Slopes are taken
# of a pass that was made already.
SLOPES, ALIKE, GRADIENT, ONE_SLOPE, SECOND = 2, 2, 22, 5, 10
# A second derivative keeps about three times what a training step keeps, a float64 copy twice as much.
MOST_KEPT = 2 * 2**30


@record
class Affordable:
    """What is checked of a network's derivatives and answers.

    Attributes
    ----------
    slopes
        Whether slopes reach every parameter that is read.
    alike
        Whether the same clip gets the same answer again, also after another one.
    gradient
        Against finite differences: along two parameters in float64, along one in float32, or not at all.
    second
        Whether second derivatives exist.
    """

    slopes: bool
    alike: bool
    gradient: int
    second: bool


def affordable(step: TrainingStep, share: float = 1.0) -> Affordable:
    """Choose checks, the most telling first, until the operations are used up.

    Parameters
    ----------
    share
        Of the clip that the checks run on: a corner of it takes that much less, in (0, 1].
    """
    left = MOST_OPERATIONS / max(step.operations * share, 1.0)
    kept = step.kept * share

    def fits(passes: int) -> bool:
        nonlocal left
        if passes > left:
            return False
        left -= passes
        return True

    slopes, alike = fits(SLOPES), fits(ALIKE)
    double = 2 * kept <= MOST_KEPT and fits(GRADIENT)
    gradient = 2 if double else 1 if fits(ONE_SLOPE) else 0
    return Affordable(slopes=slopes, alike=alike, gradient=gradient, second=kept <= MOST_KEPT and fits(SECOND))
