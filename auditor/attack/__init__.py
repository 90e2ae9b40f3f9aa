"""Invert: reconstruct clips from an update, knowing only what an attacker knows."""

from auditor.attack.as_sent import as_sent
from auditor.attack.base import Attack
from auditor.attack.certificate import REPRODUCES, distance, residual
from auditor.attack.closed_form.linear_input import LinearInversion
from auditor.attack.cost import LEAST_STEPS, AttackCost
from auditor.attack.features.frame_span import FrameSpan, frame_features, frame_spans
from auditor.attack.features.recovered_features import recover_features
from auditor.attack.labels.restoration import restore_labels
from auditor.attack.malicious import MALICIOUS
from auditor.attack.matching.gradient_matching import GradientMatching
from auditor.attack.presets import PRESETS, Preset, work_a_second
from auditor.attack.registry import ATTACKS, BATTERY, BY_NAME, CLOSED_FORMS, COMPARISON
from auditor.attack.start import GivenClips, ReferenceFrame

__all__ = [
    "ATTACKS",
    "BATTERY",
    "BY_NAME",
    "CLOSED_FORMS",
    "COMPARISON",
    "LEAST_STEPS",
    "MALICIOUS",
    "PRESETS",
    "REPRODUCES",
    "Attack",
    "AttackCost",
    "FrameSpan",
    "GivenClips",
    "GradientMatching",
    "LinearInversion",
    "Preset",
    "ReferenceFrame",
    "as_sent",
    "distance",
    "frame_features",
    "frame_spans",
    "recover_features",
    "residual",
    "restore_labels",
    "work_a_second",
]
