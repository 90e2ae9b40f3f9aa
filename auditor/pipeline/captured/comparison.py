"""Two updates side by side: parameter by parameter, and as a whole."""

import math
from collections.abc import Mapping

from torch import Tensor

from auditor.results.updates.replay import ComparedTensor


def inner(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """Return the inner product over the parameters of `a`, in double precision."""
    return sum(float((a[name].double() * b[name].double()).sum()) for name in a)


def norm(a: Mapping[str, Tensor]) -> float:
    """Return the L2 norm over all parameters."""
    return math.sqrt(inner(a, a))


def difference(sent: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> float:
    """Return ||sent - ours|| / ||sent||; infinite where nothing was sent or ours is not finite."""
    size = norm(sent)
    off = norm({name: s - ours[name] for name, s in sent.items()})
    return off / size if size > 0.0 and math.isfinite(off) else math.inf


def cosine(sent: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> float:
    """Return the cosine of two updates; NaN where one is zero."""
    sizes = norm(sent) * norm(ours)
    return inner(sent, ours) / sizes if sizes > 0.0 else math.nan


def scale(sent: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> float:
    """Return the factor that brings ours nearest to what was sent; 0 where ours is zero."""
    own = inner(ours, ours)
    return inner(sent, ours) / own if own > 0.0 else 0.0


def scaled(ours: Mapping[str, Tensor], by: float) -> dict[str, Tensor]:
    """Return an update times a factor."""
    return {name: by * value for name, value in ours.items()}


def compared(sent: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> tuple[ComparedTensor, ...]:
    """Return the comparison of every parameter, in the order of `sent`."""
    return tuple(
        ComparedTensor(
            name=name,
            sent=norm({name: value}),
            simulated=norm({name: ours[name]}),
            difference=difference({name: value}, ours),
            cosine=cosine({name: value}, {name: ours[name]}),
        )
        for name, value in sent.items()
    )
