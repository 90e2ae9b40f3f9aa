"""What an update determines, by linear analysis."""

from auditor.records.forms import record


@record
class Exposure:
    """Mode exposure of a set of layers: what a linear attacker with a natural-clip prior could know.

    `psnr` is the predicted PSNR (dB) at noise `sigma` (relative to the root-mean-square of the layer's gradient),
    `ceiling` the same at float32 rounding, `prior` with no update at all.
    """

    psnr: float
    ceiling: float
    prior: float
    sigma: float
