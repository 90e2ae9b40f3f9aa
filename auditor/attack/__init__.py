"""Invert: reconstruct clips from an update, knowing only what an attacker knows."""

from auditor.attack.batteries import CLOSED_FORMS, PRESETS, Preset
from auditor.attack.certificate import distance
from auditor.attack.gradient_matching import LEAST_STEPS, GradientMatching
from auditor.attack.interface import Attack
from auditor.attack.labels import restore_labels
from auditor.attack.linear_input import LinearInversion
from auditor.attack.start import ReferenceFrame

__all__ = [
    "CLOSED_FORMS",
    "LEAST_STEPS",
    "PRESETS",
    "Attack",
    "GradientMatching",
    "LinearInversion",
    "Preset",
    "ReferenceFrame",
    "distance",
    "restore_labels",
]
