"""Which Gaussian mechanism the defences of a client amount to, for whoever sees what it sends."""

import math
from collections.abc import Sequence

from auditor.federated import AtServer, ClipNorm, Clusters, GaussianNoise, LaplaceNoise
from auditor.records import Defence, Effect, FederatedProtocol

# These leave no update longer than it was, and zero as it is: rounding to levels may make one longer, but for means of
# clusters; half precision does so by a 2,000th.
_NO_LONGER: frozenset[Effect] = frozenset({"scale", "mask", "clamp", "precision", "sign", "omission"})
# And these carry no two updates further apart than they were.
_NO_FURTHER: frozenset[Effect] = frozenset({"clamp", "omission"})
_UNLIMITED = "updates are not clipped before the noise, so one clip may change them by any amount"


class _Composition:
    """What is known of the mechanism while the defences are gone through in their order."""

    def __init__(self, clients: int) -> None:
        self.clients = clients
        # Of one update by itself, and of a move of what is seen: 0 where nothing limits it.
        self.norm = self.distance = 0.0
        # Of Gaussian noise that counts, and of what came before any limit.
        self.variance = self.unlimited = 0.0
        self.summed = clients == 1
        self.noisy = self.closed = False
        self.lengthened: Defence | None = None

    @property
    def alone(self) -> bool:
        """Whether a client that is taken away leaves zero behind: no other client's update, and no noise."""
        return not self.noisy and not (self.summed and self.clients > 1)

    @property
    def protected(self) -> bool:
        """Whether Gaussian noise stands behind a limit."""
        return self.variance > 0.0 and self.sensitivity > 0.0

    def clip(self, norm: float) -> None:
        """Limit how far one client moves what is seen: both ends of a move lie within the norm."""
        if self.protected:
            self.close()
            return
        self.unlimited = max(self.unlimited, self.variance)
        self.variance, self.lengthened = 0.0, None
        if self.alone:
            self.norm = min(norm, self.norm or math.inf)
        else:
            self.distance = min(2.0 * norm, self.distance or math.inf)

    def add(self, sigma: float) -> None:
        """Add Gaussian noise: to what is seen, or to each of several updates whose average is."""
        if self.closed:
            return
        self.noisy = True
        self.variance += sigma**2 / (1 if self.summed else self.clients)

    def change(self, defence: Defence) -> None:
        """Go through anything else."""
        if self.protected:
            if defence.effect != "omission":
                self.close()
            return
        if not self._bounded(defence):
            self.norm = self.distance = 0.0
            self.lengthened = defence
        self.noisy = self.noisy or defence.effect == "noise"

    def _bounded(self, defence: Defence) -> bool:
        """Tell whether what limits a move before a defence limits it behind it too."""
        if self.alone:
            return defence.effect in _NO_LONGER or isinstance(defence, LaplaceNoise | Clusters)
        return defence.effect in _NO_FURTHER or isinstance(defence, LaplaceNoise)

    def close(self) -> None:
        """Count no more: the noise that is there protects whatever comes after; of one client its own alone."""
        if not self.closed and not self.summed:
            self.variance *= self.clients
            self.clients = 1
        self.closed = True

    @property
    def sensitivity(self) -> float:
        """How far one client that is taken away moves what is seen; 0 where nothing limits it."""
        limits = [limit for limit in (self.norm / self.clients, self.distance) if limit > 0.0]
        return min(limits, default=0.0)


def mechanism_of(defences: Sequence[Defence], protocol: FederatedProtocol) -> tuple[float, float, str]:
    """Return sigma and sensitivity of what is seen, or why there is no bound: 0 stands for what there is not.

    The sensitivity is how far a client that is taken away moves the average of n that is seen: C / n where each update
    is clipped to C by itself, and up to 2 C where the average is clipped. What comes after the noise takes nothing away
    from it (post-processing), and is not counted.
    """
    course = _Composition(protocol.clients)
    after = ""
    for defence in defences:
        if isinstance(defence, ClipNorm):
            course.clip(defence.norm)
        elif isinstance(defence, GaussianNoise):
            course.add(defence.sigma)
        elif defence.effect == "sum":
            course.summed = True
        elif isinstance(defence, AtServer):
            if isinstance(defence.defence, GaussianNoise):
                after = "its noise is added by the server after averaging, which has seen each update without it"
        else:
            course.change(defence)
    sigma = math.sqrt(course.variance)
    if not sigma and course.unlimited:
        return math.sqrt(course.unlimited), 0.0, _UNLIMITED
    if not sigma:
        return 0.0, course.sensitivity, after or "no Gaussian noise is added to what clients send"
    if protocol.send_buffers:
        return sigma, 0.0, "running statistics of BatchNorm are sent without clipping and noise"
    if course.sensitivity:
        return sigma, course.sensitivity, ""
    if course.lengthened is not None:
        return sigma, 0.0, f"{course.lengthened} may carry a change further than updates were clipped to"
    return sigma, 0.0, _UNLIMITED
