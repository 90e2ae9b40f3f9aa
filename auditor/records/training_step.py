"""What one training step of a model computes and keeps, counted from one forward pass."""

from auditor.results.declare import record

# Measured over eight nets, from 8x64x64 to 16x224x224: what a pass holds beside what autograd keeps of it.
_SECOND_ORDER, _JACOBIAN = 3.0, 4.5


@record
class TrainingStep:
    """One forward and one backward pass on one clip.

    Attributes
    ----------
    operations
        Floating-point operations of the forward pass in convolutions and matrix products; a multiplication and an
        addition are two. A backward pass takes twice as many.
    kept
        Bytes that autograd keeps of the forward pass for the backward pass.
    weights
        Bytes of the parameters; their gradients take as many.
    """

    operations: int
    kept: int
    weights: int
