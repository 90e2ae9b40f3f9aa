"""What a privacy claim is worth: the epsilon that the defences really give, beside the one that is claimed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from auditor.errors import UsageError
from auditor.federated import AtServer, ClipNorm, GaussianNoise, parse_all
from auditor.pipeline.findings import Finding
from auditor.records import Defence, FederatedProtocol
from auditor.results.privacy import PrivacyClaimBlock, RecallBound
from auditor.score import gaussian_epsilon, gaussian_mu, most_recall
from auditor.text import printable

_FORM = "use epsilon=NUMBER,delta=NUMBER, and rounds=NUMBER where there are several"
# Frameworks' defences that state an epsilon of their own.
_CLAIMING = ("flower-local-dp", "fedml-local-dp")
# A claim holds where the exact epsilon exceeds it by no more than rounding of what was written.
_ROUNDING = 1.01


@dataclass(frozen=True)
class PrivacyClaim:
    """(epsilon, delta)-differential privacy of everything that one client sends in so many rounds."""

    epsilon: float
    delta: float
    rounds: int = 1


def claim_of(written: str | None, defences: Sequence[str]) -> PrivacyClaim | None:
    """Return the claim as written, else that of a framework's defence which states one, else None.

    Raises
    ------
    UsageError
        It cannot be read.
    """
    if written is None:
        presets = [spec.partition(":") for spec in defences]
        stated = next((given for name, _, given in presets if name in _CLAIMING and "epsilon=" in given), None)
        if stated is None:
            return None
        kept = [pair for pair in stated.split(",") if pair.partition("=")[0] in ("epsilon", "delta")]
        written = ",".join(kept if any(pair.startswith("delta") for pair in kept) else [*kept, "delta=1e-5"])
    given = dict(pair.partition("=")[::2] for pair in written.split(","))
    if not {"epsilon", "delta"} <= set(given) <= {"epsilon", "delta", "rounds"}:
        raise UsageError(f"--dp-claim {printable(written, 60)} cannot be read", _FORM)
    try:
        claim = PrivacyClaim(float(given["epsilon"]), float(given["delta"]), int(given.get("rounds", "1")))
    except ValueError as error:
        raise UsageError(f"--dp-claim {printable(written, 60)} cannot be read", _FORM) from error
    if not (0.0 < claim.epsilon < math.inf and 0.0 < claim.delta < 1.0 and claim.rounds >= 1):
        raise UsageError(f"--dp-claim {printable(written, 60)} is out of range", "epsilon > 0, 0 < delta < 1")
    return claim


def judge_claim(
    claim: PrivacyClaim, protocol: FederatedProtocol, findings: Sequence[Finding] = ()
) -> PrivacyClaimBlock:
    """Return what the defences really give, for whoever sees what clients send, and whether the claim holds.

    The sensitivity is the norm that updates are clipped to before the noise: one clip, or all of a client's, taken
    away. Replacing it by another is twice as far.
    """
    defences = parse_all(protocol.defence)
    sigma, sensitivity, why = _mechanism(defences, protocol.clients)
    mu = math.inf if why else sensitivity / sigma * math.sqrt(claim.rounds)
    exact = gaussian_epsilon(mu, claim.delta)
    holds = exact <= _ROUNDING * claim.epsilon
    allowed = gaussian_mu(claim.epsilon, claim.delta)
    recall = _recall(findings, allowed, mu)
    return PrivacyClaimBlock(
        epsilon=claim.epsilon,
        delta=claim.delta,
        rounds=claim.rounds,
        sensitivity=None if why else sensitivity,
        sigma=sigma or None,
        mu=None if why else mu,
        exact_epsilon=None if math.isinf(exact) else exact,
        holds=holds,
        sentence=_sentence(claim, exact, holds, why),
        recall=recall,
    )


def _mechanism(defences: Sequence[Defence], clients: int) -> tuple[float, float, str]:
    """Return sigma and sensitivity of what is seen, or why there is no bound: 0 stands for what there is not."""
    clip = sigma = 0.0
    after: str = ""
    for defence in defences:
        if isinstance(defence, ClipNorm) and not sigma:
            clip = defence.norm
        elif isinstance(defence, GaussianNoise):
            sigma = math.hypot(sigma, defence.sigma)
        elif isinstance(defence, AtServer) and isinstance(defence.defence, GaussianNoise):
            after = "its noise is added by the server after averaging, which has seen each update without it"
    if not sigma:
        return 0.0, clip, after or "no Gaussian noise is added to what clients send"
    if not clip:
        return sigma, 0.0, "updates are not clipped before the noise, so one clip may change them by any amount"
    summed = any(defence.effect == "sum" for defence in defences)
    place = next((k for k, d in enumerate(defences) if d.effect == "sum"), len(defences))
    noisy_before = any(isinstance(d, GaussianNoise) for d in defences[:place])
    if summed and clients > 1:
        # The average over n moves by C / n; noise in front of it is averaged as well.
        return (sigma / math.sqrt(clients) if noisy_before else sigma), clip / clients, ""
    return sigma, clip, ""


def _recall(findings: Sequence[Finding], allowed: float, mu: float) -> RecallBound | None:
    """Return the best measured Recall@1 among attacks without frames of the scene, beside what privacy allows."""
    found = [f.retrieval.get("pixels") for f in findings if not f.reference and f.counts]
    best = max((q for q in found if q is not None), key=lambda q: q.recall_1.low, default=None)
    if best is None:
        return None
    candidates = round(1.0 / best.recall_1.chance)
    bound = most_recall(candidates, allowed)
    return RecallBound(
        candidates=candidates,
        measured=best.recall_1,
        claimed=bound,
        exact=most_recall(candidates, mu),
        contradicted=best.recall_1.low > bound,
    )


def _sentence(claim: PrivacyClaim, exact: float, holds: bool, why: str) -> str:
    told = f"epsilon {claim.epsilon:g} at delta {claim.delta:g} over {claim.rounds} round{'s' * (claim.rounds > 1)}"
    if why:
        return f"The claim of {told} does not hold for whoever sees an update: {why}."
    if holds:
        return f"The claim of {told} holds: the Gaussian mechanism gives {exact:.3g}, exactly."
    times = f"{exact / claim.epsilon:.2g} times as much"
    return f"The claim of {told} does not hold: the Gaussian mechanism gives {exact:.3g}, exactly, {times}."
