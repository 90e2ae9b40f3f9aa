"""The imported graph against ONNX Runtime: the witness that we differentiate what the file computes."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from google.protobuf.message import EncodeError  # type: ignore[import-untyped]
from onnx import ModelProto
from torch import Tensor

from auditor.runtime_process import EndedError, Session
from auditor.text import printable

NEWEST_IR = 10
TOLERANCE = 1e-4
HALF_TOLERANCE = 2e-2
SMALLEST_SCALE = 1e-3
ONE_LINE = 160


@dataclass(frozen=True, slots=True)
class NoRuntimeError(Exception):
    """ONNX Runtime is absent or cannot run this file; `reason` says why, in one line."""

    reason: str


def as_evaluated(model: ModelProto) -> ModelProto:
    """Return a copy of a model that evaluates: no dropout, running statistics in every batch normalisation."""
    copy = ModelProto()
    copy.CopyFrom(model)
    copy.ir_version = min(copy.ir_version, NEWEST_IR)
    producers = {name: node.op_type for node in copy.graph.node for name in node.output}
    for node in copy.graph.node:
        if node.op_type == "BatchNormalization":
            del node.output[1:]
            for attribute in [a for a in node.attribute if a.name == "training_mode"]:
                node.attribute.remove(attribute)
        elif node.op_type == "Dropout":
            del node.input[1:]
        elif node.op_type == "Conv" and len(node.input) == 3 and producers.get(node.input[2]) == "Expand":
            del node.input[2:]  # onnxscript 0.7 writes "no bias" as zeros of a shape that the runtime refuses
    return copy


def runtime(model: ModelProto) -> Callable[[Tensor], Tensor]:
    """Return a function that runs a model in ONNX Runtime on the CPU, in another process (see `runtime_process`).

    Raises
    ------
    NoRuntimeError
        It is not installed, or refuses the model.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise NoRuntimeError("onnxruntime is not installed")
    try:
        session = Session(as_evaluated(model).SerializeToString(), torch.get_num_threads())
    except (EncodeError, ValueError) as error:  # beyond the 2 GiB that one message holds
        raise NoRuntimeError(f"the file cannot be handed to ONNX Runtime ({_line(error)})") from error
    except RuntimeError as error:
        raise NoRuntimeError(f"ONNX Runtime refuses the file ({_line(error)})") from error
    except EndedError as error:
        raise NoRuntimeError(f"ONNX Runtime fails on the file: {error}") from error

    def run(x: Tensor) -> Tensor:
        try:
            content, shape = session.run(x.detach().cpu().float().numpy().tobytes(), tuple(x.shape))
        except RuntimeError as error:
            raise NoRuntimeError(f"ONNX Runtime cannot run the file ({_line(error)})") from error
        except EndedError as error:
            raise NoRuntimeError(f"ONNX Runtime fails on the file: {error}") from error
        return torch.from_numpy(np.frombuffer(content, np.float32).reshape(shape).copy())

    return run


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference relative to the largest logit; infinite when shapes differ or a value is NaN."""
    if ours.shape != theirs.shape:
        return float("inf")
    scale = max(float(theirs.abs().max()), SMALLEST_SCALE)
    error = float((ours.detach().cpu() - theirs).abs().max()) / scale
    return error if error == error else float("inf")


def _line(error: Exception) -> str:
    text = str(error).split("\n")[0] or type(error).__name__
    return printable(text, ONE_LINE)
