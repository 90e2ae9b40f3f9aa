"""Attacks on FedAvg updates: what several local steps change, put in front of any gradient matching."""

from auditor.attack.fedavg.surrogate import SurrogateMatching
from auditor.attack.fedavg.unrolled import UnrolledMatching

SME = SurrogateMatching(
    name="sme",
    title="Gradient matching at a surrogate model (SME)",
    source="Zhu et al. 2023 (arXiv 2306.00127)",
)
NL_SME = SurrogateMatching(
    name="nl-sme",
    title="Gradient matching on a curved path of surrogate models (NL-SME)",
    source="Xia et al. 2025 (arXiv 2509.22082), quadratic Bezier path",
    curvature=0.03,
)
UNROLLED = UnrolledMatching(
    name="unrolled",
    title="Gradient matching through the local steps",
    source="Dimitrov et al. 2022 (arXiv 2206.12395), with one order of clips for all epochs",
)
UNROLLED_EPOCHS = UnrolledMatching(
    name="unrolled-epochs",
    title="Gradient matching through the local steps, epochs apart",
    source="Dimitrov et al. 2022 (arXiv 2206.12395), with an order-invariant epoch prior",
    agreement=0.1,
)
UNROLLED_GUESSED = UnrolledMatching(
    name="unrolled-guessed",
    title="Gradient matching through guessed local steps",
    source="Dimitrov et al. 2022 (arXiv 2206.12395), with learning rate, epochs and batch size guessed",
    known=False,
)
FEDAVG = (SME, NL_SME, UNROLLED, UNROLLED_EPOCHS, UNROLLED_GUESSED)

__all__ = [
    "FEDAVG",
    "NL_SME",
    "SME",
    "UNROLLED",
    "UNROLLED_EPOCHS",
    "UNROLLED_GUESSED",
    "SurrogateMatching",
    "UnrolledMatching",
]
