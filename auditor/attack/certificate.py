"""A check that the attacker can make: does the reconstruction reproduce the update?"""

import math

from torch import Tensor

from auditor.records import Clips, Label, View

# A float32 gradient reproduces itself to about 1e-6; a picture at 60 dB moves it by about 1e-3. Above 1e-2 the
# reconstruction is visibly of something else.
REPRODUCES = 1e-2


def residual(view: View, clips: Clips, labels: tuple[Label, ...]) -> float:
    """Return ||g(x) - g*|| / ||g*|| over everything sent: 0 is a perfect reproduction, about 1 an unrelated clip."""
    again = view.client(clips, view.client.targets(labels))
    return distance(again, dict(view.update.gradients))


def distance(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """Return the relative L2 distance of two updates; NaN-proof (a NaN counts as infinitely far)."""
    off = sum(float((ours[n] - g).double().square().sum()) for n, g in theirs.items())
    norm = sum(float(g.double().square().sum()) for g in theirs.values())
    if norm == 0.0:
        return math.inf
    value = math.sqrt(off / norm)
    return value if math.isfinite(value) else math.inf
