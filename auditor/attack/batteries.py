"""Named, frozen batteries: which attacks run, in which order, and how hard they try."""

from dataclasses import dataclass, replace

from auditor.attack.feature_inversion import FeatureInversion
from auditor.attack.gradient_matching import GradientMatching
from auditor.attack.interface import Attack
from auditor.attack.linear_input import LinearInversion
from auditor.attack.patch_embedding import PatchEmbeddingInversion
from auditor.attack.prior import NearReference, SpatialVariation, TemporalVariation
from auditor.attack.spear import SpearInversion
from auditor.attack.start import Grey, ReferenceFrame
from auditor.attack.step import Schedule

R1 = GradientMatching(
    name="gradient-matching-r1",
    title="Gradient matching from one reference frame",
    source="Rasul et al. 2025 (arXiv 2509.09742), R1; objective of Geiping et al. 2020 (arXiv 2003.14053)",
    start=ReferenceFrame(),
    # Small steps and a pull towards the reference keep what it tells; measured on two clips and two nets, steps of 0.1
    # without the pull lost up to 7 dB against the reference itself.
    priors=(TemporalVariation(0.1), SpatialVariation(0.03), NearReference(0.1)),
    schedule=Schedule(rate=0.03, anneal=0.03),
)


CLOSED_FORMS: tuple[Attack, ...] = (LinearInversion(), PatchEmbeddingInversion(), SpearInversion())


def _battery(restarts: int) -> tuple[Attack, ...]:
    return (
        *CLOSED_FORMS,
        FeatureInversion(restarts=restarts, start=Grey()),
        GradientMatching(restarts=restarts, start=Grey()),
        replace(R1, restarts=restarts),
    )


@dataclass(frozen=True, kw_only=True)
class Preset:
    """What one named effort spends.

    Attributes
    ----------
    seconds
        Default of --max-time, for everything between loading and writing the report.
    steps
        Most steps of one descent; the measured pace may allow fewer.
    probes
        Real clips attacked (a canary comes on top).
    seeds
        Independent repetitions of every stochastic attack.
    what_if
        Whether variants run unless asked otherwise.
    """

    name: str
    seconds: float
    attacks: tuple[Attack, ...]
    steps: int
    probes: int
    seeds: int
    what_if: bool


PRESETS = {
    "fast": Preset(name="fast", seconds=120.0, attacks=_battery(1), steps=1500, probes=3, seeds=1, what_if=False),
    "standard": Preset(
        name="standard", seconds=900.0, attacks=_battery(2), steps=3000, probes=5, seeds=2, what_if=True
    ),
    "deep": Preset(name="deep", seconds=7200.0, attacks=_battery(4), steps=6000, probes=7, seeds=3, what_if=True),
}
