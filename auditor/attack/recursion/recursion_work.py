"""What a recursion through a net computes, counted from the shapes of its layers."""

import math
from collections.abc import Sequence

from auditor.attack.cost import AttackCost
from auditor.attack.recursion.masked_system import MOST_WORK
from auditor.records import View
from auditor.results.model import Determinacy

# In gradients of the client: tracing, tests whether calls are affine, pulled gradients, the final residual; and joining
# what is known above a value that its own equations leave open (60 s of CPU on r3d_18 at 16x112x112).
_AROUND, _JOINING = 10.0, 40.0
# One product with J'J goes twice back through the lower part of the net, and a gradient also writes every weight:
# measured on r3d_18, 0.5 gradients at 8x32x32, 0.8 at 8x64x64 and 1.5 at 16x112x112, where a gradient is counted 1.3
# times as dear as it is.
_PRODUCT, _PER_PIXEL_VALUE, _MOST_PRODUCT = 0.5, 1.1e-6, 2.0
# Of the search: beyond, clips of r3d_18 at 8x32x32 gained less than 2 dB; 577 gave 38.7 and 42.0 dB.
_PRODUCTS = 1000


def recursion_work(view: View, layers: Sequence[Determinacy]) -> AttackCost:
    """Count the decompositions from the head down to the first value that its equations do not determine, with it."""
    strides = {layer.name: layer.convolution.stride for layer in view.target.layers if layer.convolution is not None}
    total, joins = 0.0, False
    for one in reversed(layers):
        # Positions that differ modulo the stride never meet in one equation: each class is decomposed alone.
        classes = math.prod(strides.get(one.layers[0], (1,)))
        sizes = one.equations / classes, one.unknowns / classes
        each = min(sizes) ** 2 * max(sizes)
        total += classes * each if each <= MOST_WORK else 0.0
        if one.rank < one.unknowns:
            joins = True
            break
    step = min(_MOST_PRODUCT, _PRODUCT + _PER_PIXEL_VALUE * math.prod(view.knowledge.clip_shape))
    return AttackCost(multiplications=total, gradients=_AROUND + _JOINING * joins, step=step, steps=_PRODUCTS)
