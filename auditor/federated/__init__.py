"""Observe: what a client computes on its clips and sends."""

from auditor.federated.aggregation import PerClip
from auditor.federated.client import LocalClient, observe
from auditor.federated.clipping import ClipNorm
from auditor.federated.codebooks import Clusters
from auditor.federated.defence import DEFENCES, AtServer, clients_of, clips_behind, defend, kept_back, parse, parse_all
from auditor.federated.families import FAMILIES, BareSize, Family, families
from auditor.federated.frameworks import ClientTraining
from auditor.federated.labels import assign_labels, batch_labels
from auditor.federated.loss import LOSSES, Loss, guess_loss, make_loss, output_remarks
from auditor.federated.noise import GaussianNoise, LaplaceNoise
from auditor.federated.sparsification import RandomK
from auditor.federated.trainable import patterns_of, select_parameters

__all__ = [
    "DEFENCES",
    "FAMILIES",
    "LOSSES",
    "AtServer",
    "BareSize",
    "ClientTraining",
    "ClipNorm",
    "Clusters",
    "Family",
    "GaussianNoise",
    "LaplaceNoise",
    "LocalClient",
    "Loss",
    "PerClip",
    "RandomK",
    "assign_labels",
    "batch_labels",
    "clients_of",
    "clips_behind",
    "defend",
    "families",
    "guess_loss",
    "kept_back",
    "make_loss",
    "observe",
    "output_remarks",
    "parse",
    "parse_all",
    "patterns_of",
    "select_parameters",
]
