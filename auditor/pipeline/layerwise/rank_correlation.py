"""Whether what is known of layers without an attack puts them in the order of what attacks recover from them."""

import math
from collections.abc import Sequence

from scipy.stats import spearmanr

# Below this many layers every order is likely by luck.
LEAST_LAYERS = 4


def rank_correlation(predicted: Sequence[float | None], recovered: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation over the layers that have a prediction, equal values sharing their ranks.

    None where fewer than `LEAST_LAYERS` have one, or where all predictions or all results are the same.
    """
    known = [(p, r) for p, r in zip(predicted, recovered, strict=True) if p is not None and math.isfinite(p)]
    if len(known) < LEAST_LAYERS or any(len({pair[side] for pair in known}) < 2 for side in (0, 1)):
        return None
    return float(spearmanr([p for p, _ in known], [r for _, r in known]).statistic)
