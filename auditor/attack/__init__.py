"""Invert: reconstruct clips from an update, knowing only what an attacker knows."""

from auditor.attack.batteries import PRESETS, Preset
from auditor.attack.catalogue import ATTACKS, BY_NAME, CLOSED_FORMS
from auditor.attack.certificate import distance
from auditor.attack.frame_span import FrameSpan, frame_features, frame_spans
from auditor.attack.gradient_matching import LEAST_STEPS, GradientMatching
from auditor.attack.interface import Attack
from auditor.attack.labels import restore_labels
from auditor.attack.linear_input import LinearInversion
from auditor.attack.recovered_features import recover_features
from auditor.attack.start import GivenClips, ReferenceFrame

__all__ = [
    "ATTACKS",
    "BY_NAME",
    "CLOSED_FORMS",
    "LEAST_STEPS",
    "PRESETS",
    "Attack",
    "FrameSpan",
    "GivenClips",
    "GradientMatching",
    "LinearInversion",
    "Preset",
    "ReferenceFrame",
    "distance",
    "frame_features",
    "frame_spans",
    "recover_features",
    "restore_labels",
]
