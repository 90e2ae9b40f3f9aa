"""A check that the attacker can make: does the reconstruction reproduce the update?"""

import math
from collections.abc import Mapping

from torch import Tensor

from auditor.records import Clips, Label, Outcome, Reconstruction, View

# A float32 gradient reproduces itself to about 1e-6; a picture at 60 dB moves it by about 1e-3. Above 1e-2 the
# reconstruction is visibly of something else.
REPRODUCES = 1e-2


def residual(view: View, clips: Clips, labels: tuple[Label, ...]) -> float:
    """Return ||g(x) - g*|| / ||g*|| over everything sent: 0 is a perfect reproduction, about 1 an unrelated clip."""
    again = view.client(clips, view.client.targets(labels))
    return distance(again, dict(view.update.gradients))


def solved(
    attack: str,
    clips: Clips,
    labels: tuple[Label, ...],
    certificate: Mapping[str, float],
    *,
    seconds: float,
    seed: int,
    note: str,
) -> Reconstruction:
    """Return what a closed form found: solved if its `update_residual` reproduces the update, else unverified."""
    off = certificate["update_residual"]
    return Reconstruction(
        attack=attack,
        clips=clips,
        labels=labels,
        outcome=Outcome.SOLVED if off < REPRODUCES else Outcome.UNVERIFIED,
        objective=off,
        certificate=certificate,
        seconds=seconds,
        seed=seed,
        notes=(note,),
    )


def distance(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """Return the relative L2 distance of two updates; NaN-proof (a NaN counts as infinitely far)."""
    off = sum(float((ours[n] - g).double().square().sum()) for n, g in theirs.items())
    norm = sum(float(g.double().square().sum()) for g in theirs.values())
    if norm == 0.0:
        return math.inf
    value = math.sqrt(off / norm)
    return value if math.isfinite(value) else math.inf
