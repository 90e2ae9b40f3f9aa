"""The records that travel through the pipeline: this page explains the program.

    load      generate     observe      invert              enhance        score         render
    Target -> Probe     -> Update    -> Reconstruction   -> Enhanced    -> Finding    -> Audit -> files

Clips are float32 in [0, 1], shaped `(clip, frame, channel, height, width)`; a single clip drops the first axis.
Tensors inside records are detached. Records never change: use `dataclasses.replace`.
"""

from auditor.records.budget import Budget, Clock
from auditor.records.ceiling import Ceiling
from auditor.records.defence import (
    Defence,
    Effect,
    Place,
    at_client,
    deviation_of,
    signs_kept,
    split_at_sum,
    straight_through,
    written,
)
from auditor.records.forms import (
    Activation,
    Algorithm,
    BatchNormMode,
    Clip,
    Clips,
    DropoutMode,
    Join,
    Labels,
    Logits,
    TemporalPool,
)
from auditor.records.operation_cost import decomposition_seconds, product_seconds
from auditor.records.placement import as_written, placed, random_state_kept
from auditor.records.probe import Probe
from auditor.records.reconstruction import Checkpoint, LabelGuess, Reconstruction, RecoveredActivation, View
from auditor.records.target import (
    Convolution,
    Layer,
    NormInput,
    OutputSpec,
    PublicModel,
    SplitModel,
    Target,
)
from auditor.records.training_step import TrainingStep
from auditor.records.update import BatchStatistics, Client, FederatedProtocol, Knowledge, Update, joint_norm
from auditor.records.work import charge, charged, counting, repeated, work_of
from auditor.results.attempts import Outcome, RecoveredInput, Skipped, Trace
from auditor.results.declare import Label, record
from auditor.results.model import Fidelity, InputSpec, ModelPart, Unaccounted
from auditor.results.scores import Exposure
from auditor.terms import Layout

__all__ = [
    "Activation",
    "Algorithm",
    "BatchNormMode",
    "BatchStatistics",
    "Budget",
    "Ceiling",
    "Checkpoint",
    "Client",
    "Clip",
    "Clips",
    "Clock",
    "Convolution",
    "Defence",
    "DropoutMode",
    "Effect",
    "Exposure",
    "FederatedProtocol",
    "Fidelity",
    "InputSpec",
    "Join",
    "Knowledge",
    "Label",
    "LabelGuess",
    "Labels",
    "Layer",
    "Layout",
    "Logits",
    "ModelPart",
    "NormInput",
    "Outcome",
    "OutputSpec",
    "Place",
    "Probe",
    "PublicModel",
    "Reconstruction",
    "RecoveredActivation",
    "RecoveredInput",
    "Skipped",
    "SplitModel",
    "Target",
    "TemporalPool",
    "Trace",
    "TrainingStep",
    "Unaccounted",
    "Update",
    "View",
    "as_written",
    "at_client",
    "charge",
    "charged",
    "counting",
    "decomposition_seconds",
    "deviation_of",
    "joint_norm",
    "placed",
    "product_seconds",
    "random_state_kept",
    "record",
    "repeated",
    "signs_kept",
    "split_at_sum",
    "straight_through",
    "work_of",
    "written",
]
