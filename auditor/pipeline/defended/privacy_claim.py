"""What a privacy claim is worth: the epsilon that the defences really give, beside the one that is claimed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from auditor.errors import UsageError
from auditor.federated import parse_all
from auditor.pipeline.defended.gaussian_mechanism import mechanism_of
from auditor.pipeline.findings import Finding
from auditor.records import FederatedProtocol
from auditor.results.protection.privacy import PrivacyClaimBlock, RecallBound
from auditor.score import gaussian_epsilon, gaussian_mu, most_recall, sampled_epsilon
from auditor.text import printable

_FORM = "use epsilon=NUMBER,delta=NUMBER, and rounds=NUMBER, sampling=SHARE and clients=NUMBER where they apply"
_NAMES = frozenset(("epsilon", "delta", "rounds", "sampling", "clients"))
_EXTRA = "install the accountant: pip install 'fl-audit[dp]'"
# Frameworks' defences that state an epsilon of their own.
_CLAIMING = ("flower-local-dp", "fedml-local-dp")
# More rounds are a slip of the pen, and beyond what float64 composes.
_MOST_ROUNDS = 10**9
# A claim holds where the exact epsilon exceeds it by no more than rounding of what was written.
_ROUNDING = 1.01


@dataclass(frozen=True)
class PrivacyClaim:
    """(epsilon, delta)-differential privacy of everything that one client sends in so many rounds.

    `sampling` is the probability that a clip takes part in a round, `clients` how many there are; None where they are
    not claimed.
    """

    epsilon: float
    delta: float
    rounds: int = 1
    sampling: float | None = None
    clients: int | None = None


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
    pairs = [pair.partition("=")[::2] for pair in written.split(",")]
    given = dict(pairs)
    if not {"epsilon", "delta"} <= set(given) <= _NAMES or len(given) < len(pairs):
        raise UsageError(f"--dp-claim {printable(written, 60)} cannot be read", _FORM)
    try:
        claim = PrivacyClaim(
            float(given["epsilon"]),
            float(given["delta"]),
            int(given.get("rounds", "1")),
            float(given["sampling"]) if "sampling" in given else None,
            int(given["clients"]) if "clients" in given else None,
        )
    except ValueError as error:
        raise UsageError(f"--dp-claim {printable(written, 60)} cannot be read", _FORM) from error
    if not _in_range(claim):
        raise UsageError(
            f"--dp-claim {printable(written, 60)} is out of range",
            "epsilon > 0, 0 < delta < 1, 1 to 1e9 rounds, 0 < sampling <= 1, clients >= 1",
        )
    return claim


def _in_range(claim: PrivacyClaim) -> bool:
    sampled = claim.sampling is None or 0.0 < claim.sampling <= 1.0
    several = claim.clients is None or claim.clients >= 1
    return (
        0.0 < claim.epsilon < math.inf and 0.0 < claim.delta < 1.0 and 1 <= claim.rounds <= _MOST_ROUNDS
        and sampled and several
    )  # fmt: skip


def judge_claim(
    claim: PrivacyClaim, protocol: FederatedProtocol, findings: Sequence[Finding] = ()
) -> PrivacyClaimBlock:
    """Return what the defences really give, for whoever sees what clients send, and whether the claim holds.

    The sensitivity is that of a client that is taken away, or of a clip where each is clipped by itself: see
    `mechanism_of`. Replacing it by another is twice as far.
    """
    defences = parse_all(protocol.defence)
    sigma, sensitivity, why = mechanism_of(defences, protocol)
    mu = math.inf if why else sensitivity / sigma * math.sqrt(claim.rounds)
    exact = gaussian_epsilon(mu, claim.delta)
    credit, note = (None, "") if why else _credit(claim, protocol, sensitivity / sigma)
    if credit is not None:
        exact = min(exact, credit)
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
        sentence=_sentence(claim, exact, holds, why, credited=credit is not None),
        recall=recall,
        sampling=claim.sampling,
        clients=claim.clients,
        credited=credit is not None,
        note=note,
    )


def _credit(claim: PrivacyClaim, protocol: FederatedProtocol, mu: float) -> tuple[float | None, str]:
    """Return the epsilon that secret sampling of clips leaves, None where it earns nothing, and what is to be said.

    One clip that is drawn or not moves a sum by the clipping norm only where each clip is clipped by itself; where a
    whole update of several clips is clipped, one of them may turn it around.
    """
    said = []
    if claim.clients is not None:
        said.append("No credit for the number of clients: whoever receives updates knows who sent them.")
    if claim.sampling is None or claim.sampling == 1.0:
        return None, " ".join(said)
    alone = protocol.per_clip or protocol.clips_each == 1
    if protocol.algorithm != "FedSGD" or not alone:
        said.append("No credit for sampling: clips are not clipped one by one.")
        return None, " ".join(said)
    epsilon = sampled_epsilon(mu, claim.sampling, claim.rounds, claim.delta)
    if epsilon is None:
        said.append(f"No credit for sampling: dp-accounting is not here; {_EXTRA}.")
        return None, " ".join(said)
    if math.isinf(epsilon):
        said.append("No credit for sampling: with so little noise, or so many rounds, the accountant is not asked.")
        return None, " ".join(said)
    said.append(f"Clips are taken to be drawn by a coin of {claim.sampling:g} each round, unseen by the attacker.")
    return epsilon, " ".join(said)


def round_epsilon(protocol: FederatedProtocol, delta: float = 1e-5) -> float | None:
    """Return the epsilon of one round for whoever sees what clients send; None where nothing bounds it."""
    sigma, sensitivity, why = mechanism_of(parse_all(protocol.defence), protocol)
    return None if why else gaussian_epsilon(sensitivity / sigma, delta)


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


def _sentence(claim: PrivacyClaim, exact: float, holds: bool, why: str, *, credited: bool) -> str:
    told = f"epsilon {claim.epsilon:g} at delta {claim.delta:g} over {claim.rounds} round{'s' * (claim.rounds > 1)}"
    if why:
        return f"The claim of {told} does not hold for whoever sees an update: {why}."
    how = "with sampling, at most" if credited else "exactly"
    if holds:
        return f"The claim of {told} holds: the Gaussian mechanism gives {exact:.3g}, {how}."
    times = f"{exact / claim.epsilon:.2g} times as much"
    return f"The claim of {told} does not hold: the Gaussian mechanism gives {exact:.3g}, {how}, {times}."
