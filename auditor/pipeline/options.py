"""What the user asked for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from auditor.records import Algorithm, BatchNormMode, DropoutMode, Join, Layout, TemporalPool, record


@record
class ScanOptions:
    """Every choice that a scan depends on; the same options and seed give the same audit on the same machine.

    Without `trainable` everything is trained but what the model itself freezes. `local_epochs`, `local_batch` (0 is all
    clips), `learning_rate` and `momentum` are those of FedAvg. `max_time` is in seconds, for
    everything from loading to the last score; None takes the preset's.
    `references` are as `references_from` reads them.
    `sr` are files of super-resolution networks.
    """

    model: str = ""
    extractor: str | None = None
    head: str | None = None
    extractor_weights: Path | None = None
    head_weights: Path | None = None
    join: Join | None = None
    weights: Path | None = None
    input_shape: tuple[int, ...] | None = None
    layout: Layout | None = None
    classes: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    value_range: tuple[float, float] | None = None
    temporal_pool: TemporalPool | None = None
    output: str | None = None
    arguments: tuple[tuple[str, Any], ...] = ()
    trust_model: bool = False
    onnx_ops: tuple[Path, ...] = ()
    probes: tuple[Path, ...] = ()
    references: tuple[str, ...] = ()
    batch: int = 1
    labels: Literal["distinct", "equal"] = "distinct"
    batchnorm: BatchNormMode = "eval"
    trainable: tuple[str, ...] = ()
    loss: str = "cross-entropy"
    dropout: DropoutMode = "off"
    send_buffers: bool = False
    algorithm: Algorithm = "FedSGD"
    local_epochs: int = 1
    local_batch: int = 0
    learning_rate: float = 0.01
    momentum: float = 0.0
    lpips: Path | None = None
    faces: bool = False
    preset: str = "fast"
    max_time: float | None = None
    seed: int = 0
    device: str = "auto"
    what_if: bool | None = None
    malicious: bool | None = None
    sr: tuple[Path, ...] = ()
    fail_on: str = "high"
    command: tuple[str, ...] = ()

    def as_json(self) -> Mapping[str, Any]:
        """Return the options as plain values, paths as given."""
        plain: dict[str, Any] = {}
        for name in self.__slots__:  # type: ignore[attr-defined]
            value = getattr(self, name)
            if isinstance(value, Path):
                value = str(value)
            elif isinstance(value, tuple):
                value = [str(v) if isinstance(v, Path) else v for v in value]
            plain[name] = value
        plain["arguments"] = [f"{name}={value}" for name, value in self.arguments]
        return plain
