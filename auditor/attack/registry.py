"""Every attack by its name, whether or not a preset runs it."""

from dataclasses import replace

from auditor.attack.base import Attack
from auditor.attack.closed_form.april import April
from auditor.attack.closed_form.cocktail_party import CocktailParty
from auditor.attack.closed_form.linear_input import LinearInversion
from auditor.attack.closed_form.patch_embedding import PatchEmbeddingInversion
from auditor.attack.closed_form.spear import SpearInversion
from auditor.attack.closed_form.token_spans import TokenSpans
from auditor.attack.features.feature_inversion import FeatureInversion
from auditor.attack.features.span_inversion import SpanInversion
from auditor.attack.fedavg import FEDAVG
from auditor.attack.malicious import MALICIOUS
from auditor.attack.matching.gradient_matching import MODE_MATCHING, GradientMatching
from auditor.attack.matching.least_squares_matching import LeastSquaresMatching
from auditor.attack.matching.parametrisation import Modes
from auditor.attack.matching.prior import NearReference, SpatialVariation, TemporalVariation
from auditor.attack.matching.published import PUBLISHED
from auditor.attack.recursion.layer_recursion import LayerRecursion
from auditor.attack.recursion.residual_recursion import ResidualRecursion
from auditor.attack.start import Grey, ReferenceFrame
from auditor.prior.spectrum import FROM_ONE, FROM_SEVERAL
from auditor.solvers.schedule import Schedule

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
# Towards features of EfficientNet-Lite0, over modes the picture ends at the level of a blind guess, over pixels 5 to
# 8 dB below it, at the same distance of features.
FEATURES = FeatureInversion(start=Grey(), parametrisation=Modes(), schedule=Schedule(rate=0.05, anneal=0.1))
SPAN = SpanInversion(start=Grey())
PLAIN = GradientMatching(start=Grey())
LEAST_SQUARES = LeastSquaresMatching()
RECURSION = LayerRecursion()
RESIDUAL_RECURSION = ResidualRecursion()
TOKEN_SPANS = TokenSpans()

# Rk: up to this many frames; a scan holds three, the user's references may be more.
_MOST = 8
RK = replace(
    R1,
    name="gradient-matching-rk",
    title="Gradient matching from several reference frames",
    source="Rasul et al. 2025 (arXiv 2509.09742), Rk; objective of Geiping et al. 2020 (arXiv 2003.14053)",
    start=ReferenceFrame(count=_MOST),
    priors=(TemporalVariation(0.1), SpatialVariation(0.03), NearReference(0.1, _MOST)),
)
LEAST_SQUARES_R1 = replace(
    LEAST_SQUARES,
    name="least-squares-matching-r1",
    title="Least squares around one reference frame",
    references=1,
    spectrum=FROM_ONE,
)
LEAST_SQUARES_RK = replace(
    LEAST_SQUARES,
    name="least-squares-matching-rk",
    title="Least squares around several reference frames",
    references=_MOST,
    spectrum=FROM_SEVERAL,
)
RECURSION_R1 = replace(
    RECURSION,
    name="layer-recursion-r1",
    title="Layer-wise recursion, least squares around one reference frame",
    references=1,
    spectrum=FROM_ONE,
)
RECURSION_RK = replace(
    RECURSION,
    name="layer-recursion-rk",
    title="Layer-wise recursion, least squares around several reference frames",
    references=_MOST,
    spectrum=FROM_SEVERAL,
)
FEATURES_R1 = FeatureInversion(
    name="feature-inversion-r1",
    title="Feature inversion from one reference frame",
    source="Rasul et al. 2025 (arXiv 2509.09742), R1; Mahendran & Vedaldi 2015 (arXiv 1412.0035)",
    start=R1.start,
    priors=R1.priors,
    # Steps in the modes of what a frame leaves open; over pixels the same distance of features comes with noise.
    parametrisation=Modes(spectrum=FROM_ONE),
    schedule=Schedule(rate=0.02, anneal=0.03),
)
FEATURES_RK = replace(
    FEATURES_R1,
    name="feature-inversion-rk",
    title="Feature inversion from several reference frames",
    source="Rasul et al. 2025 (arXiv 2509.09742), Rk; Mahendran & Vedaldi 2015 (arXiv 1412.0035)",
    start=RK.start,
    priors=RK.priors,
    parametrisation=Modes(spectrum=FROM_SEVERAL),
)
SPAN_R1 = SpanInversion(
    name="span-inversion-r1",
    title="Inversion towards the span of the frames' features, from one reference frame",
    source="Rasul et al. 2025 (arXiv 2509.09742), R1; derived for this project",
    start=R1.start,
    priors=R1.priors,
    # Steps in the modes of what a frame leaves open; over pixels the same distance of features comes with noise.
    parametrisation=Modes(spectrum=FROM_ONE),
    schedule=Schedule(rate=0.02, anneal=0.03),
)

# What an audit runs: every attack of some preset, and the plain search that what-if variants are compared by.
BATTERY: tuple[Attack, ...] = (
    *CLOSED_FORMS,
    TOKEN_SPANS,
    RESIDUAL_RECURSION,
    RECURSION,
    LEAST_SQUARES,
    FEATURES,
    SPAN,
    MODE_MATCHING,
    PLAIN,
    RECURSION_R1,
    RECURSION_RK,
    FEATURES_R1,
    FEATURES_RK,
    LEAST_SQUARES_R1,
    LEAST_SQUARES_RK,
    R1,
)
# What no preset runs: published attacks, and those that were no better than the battery where they were measured
# (benchmarks/README.md). For `fl-audit attack` and studies.
COMPARISON: tuple[Attack, ...] = (April(), CocktailParty(), *PUBLISHED, *FEDAVG, RK, SPAN_R1)

ATTACKS: tuple[Attack, ...] = (*BATTERY, *MALICIOUS, *COMPARISON)
BY_NAME = {attack.name: attack for attack in ATTACKS}
