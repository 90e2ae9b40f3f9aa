"""A PyTorch model becomes an ONNX file that holds what clients train: every parameter, BatchNorm, an open batch."""

import contextlib
import io
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from auditor.errors import AuditError, NotAuditable, UsageError
from auditor.model.checks.describe import sample_clips
from auditor.model.checks.equivalence import Agreement, verify
from auditor.model.clip_input import model_shape
from auditor.model.loading import load
from auditor.model.onnx.reexport import NEWEST_OPSET, OLDEST_OPSET
from auditor.model.video import VideoModel
from auditor.records import InputSpec, Target, TemporalPool, record
from auditor.text import printable

DEFAULT_OPSET = 20
OLDEST_LEGACY, NEWEST_LEGACY = 11, 20
# A protocol buffer ends at 2 GiB; nodes and names need some of it.
LARGEST = 2 * 2**30 - 32 * 2**20
DYNAMO, LEGACY = "torch.onnx with dynamo", "torch.onnx with TorchScript"
# What the newer exporter writes about the machine it ran on.
PRIVATE = ("pkg.torch.onnx.stack_trace", "pkg.torch.onnx.fx_node")
LOGGERS = ("torch.onnx", "torch.export", "torch.fx", "onnxscript", "onnx_ir", "torch.jit")


@record
class Exported:
    """A file that was written, and the proof that it is faithful.

    Attributes
    ----------
    exporter
        Which of torch's exporters wrote it.
    fallback
        Why it was not the newer one; empty if it was.
    size
        In bytes.
    temporal_pool
        As it was asked for; a file does not say it.
    """

    path: Path
    exporter: str
    fallback: str
    opset: int
    size: int
    agreement: Agreement
    target: Target
    parity: Mapping[int, float] = field(default_factory=dict)
    temporal_pool: TemporalPool | None = None


def export_onnx(
    source: str,
    out: Path,
    *,
    overwrite: bool = False,
    opset: int | None = None,
    weights: Path | None = None,
    **choices: Any,
) -> Exported:
    """Write a model as ONNX so that its gradients are those of the module; nothing appears unless that was verified.

    Parameters
    ----------
    source, weights, choices
        As `loading.load` takes them.
    out
        The file to write; it appears whole, by one rename.
    opset
        Version of the ONNX operators; below 18 only the older exporter writes it.

    Raises
    ------
    UsageError
        The file exists, the options are wrong, or the source is ONNX already.
    NotAuditable
        Neither exporter writes a file that computes what the module computes.
    """
    _check_options(out, overwrite, opset)
    target = load(source, weights=weights, **choices)
    if target.format == "onnx":
        raise UsageError(
            f"{printable(source, 200)} is ONNX already", "give the PyTorch source that it was exported from"
        )
    network = _network_of(target)
    total = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    if total > LARGEST:
        raise UsageError(
            f"the weights take {total / 2**30:.1f} GiB, and a single ONNX file holds 2",
            "scan the PyTorch source itself: an audit needs no export",
        )
    aside = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name[:80]}."))
    try:
        pool = choices.get("temporal_pool")
        found = _first_faithful(target, network, aside / out.name, opset or DEFAULT_OPSET, pool)
        os.replace(aside / out.name, out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    exporter, fallback, version, agreement, parity = found
    return Exported(
        path=out, exporter=exporter, fallback=fallback, opset=version, size=out.stat().st_size,
        agreement=agreement, target=target, parity=parity, temporal_pool=pool,
    )  # fmt: skip


def _check_options(out: Path, overwrite: bool, opset: int | None) -> None:
    shown = printable(str(out), 200)
    if out.suffix.lower() != ".onnx":
        raise UsageError(f"-o {shown} does not end in .onnx", "name the file model.onnx")
    if out.is_dir() or (out.exists() and not out.is_file()):
        raise UsageError(f"-o {shown} is not a regular file", "name another file")
    if out.exists() and not overwrite:
        raise UsageError(f"{shown} exists already", "add --force to replace it")
    if not out.parent.is_dir():
        raise UsageError(f"there is no folder {printable(str(out.parent), 200)}", "make it first")
    if not os.access(out.parent, os.W_OK):
        raise UsageError(f"the folder {printable(str(out.parent), 200)} cannot be written to", "name another one")
    if opset is not None and not OLDEST_LEGACY <= opset <= NEWEST_OPSET:
        raise UsageError(f"--opset {opset} cannot be written", f"give one from {OLDEST_LEGACY} to {NEWEST_OPSET}")
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "torch's ONNX exporter needs the package onnxscript", "install it: pip install 'fl-audit[export]'"
        ) from error


def _network_of(target: Target) -> nn.Module:
    network = getattr(target.model, "network", None)
    if not isinstance(network, nn.Module):
        raise UsageError("this source is not one network that could be written", "export its parts one by one")
    return network


def _first_faithful(
    target: Target, network: nn.Module, path: Path, opset: int, pool: TemporalPool | None
) -> tuple[str, str, int, Agreement, Mapping[int, float]]:
    """Write with the newer exporter, then with the older one, until a file proves to be faithful."""
    reasons: list[str] = []
    attempts = [(DYNAMO, opset)] if opset >= OLDEST_OPSET else []
    if not attempts:
        reasons.append(f"opset {opset} is older than any that it writes")
    for exporter, version in (*attempts, (LEGACY, min(opset, NEWEST_LEGACY))):
        path.unlink(missing_ok=True)
        try:
            _write(exporter, target, network, path, version)
            again = _read_back(path, target.input, pool)
        except (AuditError, _ExportError) as error:
            reasons.append(printable(getattr(error, "cause", str(error)), 300))
            continue
        agreement = verify(target, again)
        if not agreement.failure:
            return exporter, "; ".join(reasons), version, agreement, again.fidelity.parity
        reasons.append(agreement.failure)
    raise NotAuditable(
        f"no faithful ONNX file could be written: {'; then, with the older exporter, '.join(reasons)}",
        "scan the PyTorch source itself: an audit needs no export",
    )


class _ExportError(Exception):
    """torch could not export; the message is one line."""


def _write(exporter: str, target: Target, network: nn.Module, path: Path, opset: int) -> None:
    assert isinstance(target.model, VideoModel)
    example = target.model.prepare(sample_clips(target.input, 2, 0))
    modes = {module: module.training for module in network.modules()}
    options: dict[str, Any] = {"opset_version": opset, "input_names": ["clip"], "output_names": ["logits"]}
    if exporter == DYNAMO:
        options |= {
            "dynamo": True,
            "optimize": False,
            "dynamic_shapes": ({0: torch.export.Dim("batch")},),
            "external_data": False,
            "verbose": False,
        }
    else:
        # As it is: batch normalisation stays, and evaluates. A root that claims to train keeps equal weights apart.
        network.training = True
        options |= {
            "dynamo": False,
            "training": torch.onnx.TrainingMode.PRESERVE,
            "do_constant_folding": False,
            "dynamic_axes": {"clip": {0: "batch"}, "logits": {0: "batch"}},
        }
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with _quiet():
            torch.onnx.export(network, (example.clone(),), str(path), **options)
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise _ExportError(f"it fails with {type(error).__name__}: {printable(lines[0], 160)}") from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, mode in modes.items():
            module.training = mode
    _without_private_notes(path)


def _without_private_notes(path: Path) -> None:
    """Take out source lines and paths of this machine, which the newer exporter writes beside every node."""
    proto = onnx.load(str(path), load_external_data=False)
    holders = [proto.graph, *proto.graph.node, *proto.graph.value_info]
    holders += [node for function in proto.functions for node in function.node]
    for holder in holders:
        for entry in [entry for entry in holder.metadata_props if entry.key in PRIVATE]:
            holder.metadata_props.remove(entry)
    onnx.save(proto, str(path))


def _read_back(path: Path, spec: InputSpec, pool: TemporalPool | None) -> Target:
    shape = model_shape(spec)
    if len(shape) == 3:
        shape = (spec.frames, *shape)
    return load(
        str(path), input_shape=shape, layout=spec.layout, mean=spec.mean, std=spec.std, range=spec.value_range,
        temporal_pool=pool,
    )  # fmt: skip


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' chatter from the terminal; what they refuse still raises."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        torch.random.fork_rng(devices=[]),
    ):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
