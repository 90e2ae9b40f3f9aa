"""Expose: how much of a clip each layer's gradient determines, by linear analysis and without an attack."""

from auditor.exposure.determinacy import determinacy
from auditor.exposure.flags import closed_form_flags
from auditor.exposure.jacobian import JacobianProducts, grams
from auditor.exposure.layers import Exposed, expose
from auditor.exposure.modes import leading_modes

__all__ = ["Exposed", "JacobianProducts", "closed_form_flags", "determinacy", "expose", "grams", "leading_modes"]
