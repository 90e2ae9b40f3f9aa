"""The keywords of `auditor.load`, `scan`, `compare`, `attack` and `defend`, for editors and checkers.

Written by `python -m auditor.options keywords` from auditor/options.py. A test keeps it current.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict


class LoadKeywords(TypedDict, total=False):
    """What `auditor.load` takes."""

    weights: str | Path | None
    input_shape: str | Sequence[int] | None
    layout: Literal["NCTHW", "NTCHW", "NTHWC", "NCHW", "NHWC"] | None
    classes: int | None
    mean: str | Sequence[float] | None
    std: str | Sequence[float] | None
    range: str | Sequence[float] | None
    temporal_pool: Literal["each", "mean", "last", "max"] | None
    model_output: str | float | None
    arg: Mapping[str, Any] | None
    trust_model: bool | None
    seed: int | None
    onnx_ops: str | Path | Sequence[str | Path] | None
    extractor: str | None
    head: str | None
    extractor_weights: str | Path | None
    head_weights: str | Path | None
    join: Literal["none", "sequence", "flatten", "pool", "pool-sequence", "mean"] | None
    device: str | None


class ClientKeywords(LoadKeywords, total=False):
    """How clients train."""

    trainable: str | Sequence[str] | None
    batch: int | None
    labels: Literal["distinct", "equal"] | None
    bn: Literal["eval", "train"] | None
    loss: str | None
    dropout: Literal["off", "on"] | None
    send_buffers: bool | None
    algorithm: Literal["fedsgd", "fedavg"] | None
    local_epochs: int | None
    local_batch: int | None
    learning_rate: float | None
    momentum: float | None
    defence: str | Sequence[str] | None
    dp_claim: str | None


class ScanKeywords(ClientKeywords, total=False):
    """What `auditor.scan` takes."""

    probes: str | Path | Sequence[str | Path] | None
    reference: str | Path | Sequence[str | Path] | None
    lpips: str | Path | None
    faces: bool | None
    replay: str | Path | None
    preset: Literal["fast", "standard", "deep"] | None
    what_if: bool | None
    layers: int | Literal["all"] | None
    malicious_server: bool | None
    sr: str | Path | Sequence[str | Path] | None
    max_time: str | float | None
    fail_on: Literal["critical", "high", "medium", "low", "never"] | None


class CompareKeywords(ScanKeywords, total=False):
    """What `auditor.compare` takes."""

    vary: Mapping[str, Sequence[Any]] | None
    change: Mapping[str, Sequence[Any]] | None
    seeds: int | None


class UpdateKeywords(ClientKeywords, total=False):
    """An update that was captured."""

    update: str | Path | None
    after: str | Path | None
    before: str | Path | None


class AttackKeywords(UpdateKeywords, total=False):
    """What `auditor.attack` takes."""

    attack: str | None
    clip: str | None
    max_time: str | float | None
    steps: int | None
    restarts: int | None
    label: str | float | None
    known_label: bool | None
    reference: str | Path | Sequence[str | Path] | None
    diagnose: bool | None


class DefendKeywords(ClientKeywords, total=False):
    """What `auditor.defend` takes."""

    probes: str | Path | Sequence[str | Path] | None
    preset: Literal["fast", "standard", "deep"] | None
    until: Literal["picture", "nothing"] | None
    utility: str | None
    max_time: str | float | None
