"""Expose: how much of a clip each layer's gradient determines, by linear analysis and without an attack."""

from auditor.exposure.determinacy import determinacy
from auditor.exposure.flags import closed_form_flags
from auditor.exposure.layers import Exposed, expose

__all__ = ["Exposed", "closed_form_flags", "determinacy", "expose"]
