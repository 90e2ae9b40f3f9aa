"""Observe: what a client computes on its clips and sends."""

from auditor.federated.client import LocalClient, observe
from auditor.federated.labels import assign_labels
from auditor.federated.trainable import select_parameters

__all__ = ["LocalClient", "assign_labels", "observe", "select_parameters"]
