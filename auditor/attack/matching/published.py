"""Published gradient matching attacks, each as the parts that it is made of."""

from auditor.attack.matching.deep_prior import DeepPrior
from auditor.attack.matching.gradient_matching import GradientMatching
from auditor.attack.matching.gradient_regularisation import GradientRegularised
from auditor.attack.matching.objective import Cosine, SquaredError
from auditor.attack.matching.prior import SpatialVariation
from auditor.attack.matching.weighting import LargestEntries, Tag
from auditor.attack.start import Grey, UniformNoise
from auditor.solvers.lbfgs import Lbfgs
from auditor.solvers.schedule import Schedule

# tau = 0: the papers know no surrogate gradient. Constant priors: none of them anneals.
DLG = GradientMatching(
    name="dlg",
    title="Deep leakage from gradients",
    source="Zhu et al. 2019 (arXiv 1906.08935): squared error, L-BFGS, no prior; labels known as in iDLG "
    "(Zhao et al. 2020, arXiv 2001.02610)",
    objective=SquaredError(),
    selection_objective=SquaredError(),
    priors=(),
    start=UniformNoise(),
    schedule=Schedule(rate=0.1, anneal=1.0),
    rule=Lbfgs(),
    tau=0.0,
)
INVERTING_GRADIENTS = GradientMatching(
    name="inverting-gradients",
    title="Inverting gradients",
    source="Geiping et al. 2020 (arXiv 2003.14053): cosine, constant total variation, Adam on signed gradients "
    "(soft signs here)",
    objective=Cosine(),
    priors=(SpatialVariation(0.02),),
    start=UniformNoise(),
    schedule=Schedule(rate=0.1, anneal=1.0),
    tau=0.0,
)
TAG = GradientMatching(
    name="tag",
    title="Transformer attack from gradients",
    source="Deng et al. 2021 (arXiv 2103.06819): squared error and an L1 term whose weight falls with depth",
    objective=Tag(),
    priors=(),
    start=UniformNoise(),
    schedule=Schedule(rate=0.05, anneal=1.0),
    tau=0.0,
)
FEDLEAK = GradientMatching(
    name="fedleak",
    title="Partial gradient matching with gradient regularisation",
    source="FedLeak, Fan et al. 2025 (arXiv 2506.08435): largest entries only, gradient blended from two points",
    objective=LargestEntries(share=0.3),
    priors=(SpatialVariation(0.02),),
    start=UniformNoise(),
    schedule=Schedule(rate=0.1, anneal=1.0),
    regularised=GradientRegularised(),
    tau=0.0,
)
DEEP_PRIOR = GradientMatching(
    name="deep-prior",
    title="Gradient matching over the weights of an untrained generator",
    source="Ulyanov et al. 2018 (arXiv 1711.10925) in 3-D, as prior of gradient matching by cosine",
    priors=(),
    start=Grey(),
    parametrisation=DeepPrior(),
    schedule=Schedule(rate=0.01, anneal=1.0),
)
PUBLISHED = (DLG, INVERTING_GRADIENTS, TAG, FEDLEAK, DEEP_PRIOR)
