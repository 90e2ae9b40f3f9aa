"""The words that options, records and results share."""

from typing import Literal

Layout = Literal["NCTHW", "NTCHW", "NTHWC", "NCHW", "NHWC"]
BatchNormMode = Literal["eval", "train"]
Algorithm = Literal["FedSGD", "FedAvg"]
TemporalPool = Literal["each", "mean", "last", "max"]
DropoutMode = Literal["off", "on"]
LabelsInBatch = Literal["distinct", "equal"]
Join = Literal["none", "sequence", "flatten", "pool", "pool-sequence", "mean"]
PresetName = Literal["fast", "standard", "deep"]
FailOn = Literal["critical", "high", "medium", "low", "never"]
Until = Literal["picture", "nothing"]
OnInconclusive = Literal["fail", "new", "pass"]
ConfidenceLevel = Literal["low", "medium", "high"]
Listing = Literal["attacks", "probes", "presets", "all"]
Language = Literal["en", "de"]
Annex = Literal["dpia"]
Document = Literal["audit", "attack", "study", "inspection", "captured", "replay", "defend", "comparison"]

# Panels of help, in its order.
MODEL: str = "Model"
PARTS: str = "Model of two parts"
CLIENT: str = "What clients train and send"
AUDIT: str = "The audit"
EXPERIMENT: str = "The attack"
CAPTURED: str = "A captured update"
SEARCH: str = "The search"
STUDY: str = "The study"
COMPARISON: str = "The comparison"
GATE: str = "The gate"
DOCUMENT: str = "The report as a document"
WORK: str = "Who does the work"
OUTPUT: str = "Output"
PANELS = (EXPERIMENT, SEARCH, CAPTURED, COMPARISON, STUDY, MODEL, PARTS, CLIENT, AUDIT, WORK, GATE, DOCUMENT, OUTPUT)
