"""Which reconstruction of a batch belongs to which clip."""

import torch
from scipy.optimize import linear_sum_assignment

from auditor.records import Clips
from auditor.score.shapes import check_shapes


def pair(truths: Clips, estimates: Clips) -> tuple[int, ...]:
    """Return for each truth the index of its reconstruction: the one-to-one pairing of least total square error.

    An update does not say in which order its clips came. Uses the truth, so it may order the clips of one
    reconstruction for scoring, and never choose among restarts or attacks. Solved exactly (Kuhn, "The Hungarian
    method", 1955; SciPy's variant after Crouse, 2016).

    Raises
    ------
    ValueError
        The shapes differ.
    """
    check_shapes(truths, estimates)
    estimates = estimates.detach().cpu().double().nan_to_num(0.5)
    cost = torch.stack([(estimates - truth.cpu().double()).square().flatten(1).sum(1) for truth in truths])
    _, columns = linear_sum_assignment(cost.numpy())
    return tuple(int(column) for column in columns)
