"""Observe: what a client computes on its clips and sends."""

from auditor.federated.client import LocalClient, observe
from auditor.federated.defence import DEFENCES, parse
from auditor.federated.labels import assign_labels, batch_labels
from auditor.federated.loss import LOSSES, Loss, guess_loss, make_loss, output_remarks
from auditor.federated.trainable import select_parameters

__all__ = [
    "DEFENCES",
    "LOSSES",
    "LocalClient",
    "Loss",
    "assign_labels",
    "batch_labels",
    "guess_loss",
    "make_loss",
    "observe",
    "output_remarks",
    "parse",
    "select_parameters",
]
