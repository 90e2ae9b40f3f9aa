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
Listing = Literal["attacks", "probes", "presets", "all"]
Document = Literal["audit", "attack", "study", "inspection"]
