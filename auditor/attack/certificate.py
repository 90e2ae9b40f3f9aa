"""A check that the attacker can make: does the reconstruction reproduce the update?"""

import math
from collections.abc import Mapping

from torch import Tensor

from auditor.attack.as_sent import as_sent
from auditor.records import Clips, Label, Outcome, Reconstruction, View

# A float32 gradient reproduces itself to about 1e-6; a picture at 60 dB moves it by about 1e-3. Above 1e-2 the
# reconstruction is visibly of something else.
REPRODUCES = 1e-2


def residual(view: View, clips: Clips, labels: tuple[Label, ...]) -> float:
    """Return ||g(x) - g*|| / ||g*|| over everything sent: 0 is a perfect reproduction, about 1 an unrelated clip.

    g(x) is what the client would have sent for x under the defences that are known; noise is not in it: under noise the
    true clip is as far away as the noise is large.

    For FedAvg g(x) is what local training makes of x, all steps repeated, in the order of clips given: where the order
    matters, it is not zero for the true clips either. Where the attacker does not know the size of steps, g(x) is
    scaled to be nearest.
    """
    sent = dict(view.update.gradients)
    again = as_sent(view.knowledge.defences, view.client(clips, view.client.targets(labels)), sent)
    return distance(again if view.scale is not None else _nearest(again, sent), sent)


def _nearest(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    inner = sum(float((ours[n] * g).double().sum()) for n, g in theirs.items())
    own = sum(float(ours[n].double().square().sum()) for n in theirs)
    return {n: ours[n] * (inner / own if own > 0.0 else 0.0) for n in theirs}


def solved(
    attack: str,
    clips: Clips,
    labels: tuple[Label, ...],
    certificate: Mapping[str, float],
    *,
    seconds: float,
    seed: int,
    note: str,
    by: str = "update_residual",
) -> Reconstruction:
    """Return what a closed form found: solved if the residual named `by` is small enough, else unverified."""
    off = certificate[by]
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


def distance(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """Return the relative L2 distance of two updates; NaN-proof (a NaN counts as infinitely far)."""
    off = sum(float((ours[n] - g).double().square().sum()) for n, g in theirs.items())
    norm = sum(float(g.double().square().sum()) for g in theirs.values())
    if norm == 0.0:
        return math.inf
    value = math.sqrt(off / norm)
    return value if math.isfinite(value) else math.inf
