"""The fidelity block in words, one place for HTML, PDF, Markdown and terminal."""

from collections.abc import Mapping
from typing import Any

from auditor.report import figures

Row = tuple[str, str]

RECIPE = "fl-audit export FILE.py:FACTORY -o model.onnx"
UPPER_BOUND = "The gradients are those of another graph than clients train: read every number as an upper bound."
_SEMANTICS = {"eval": "the file was written for evaluation", "train": "the file was written for training"}


def fidelity_rows(fidelity: Mapping[str, Any], parameters: Mapping[str, Any] | None = None) -> tuple[Row, ...]:
    """Return what was checked and what came out, as pairs of label and text.

    `fidelity` may lack what older results do not hold; `parameters` is `model.parameters` of the results.
    """
    rows = [("Read from", fidelity.get("origin") or "not recorded")]
    if parameters is not None:
        rows.append(
            (
                "Parameters",
                f"{figures.whole(parameters['tensors'])} found, {figures.whole(parameters['elements'])} elements; "
                f"{figures.whole(parameters['sent_tensors'])} trained and sent, "
                f"{figures.whole(parameters['sent_elements'])} elements",
            )
        )
    rows += [
        ("BatchNorm", batchnorm(fidelity)),
        ("Mode", _mode(fidelity)),
        ("Batch", str(fidelity["batch"])),
        ("Outputs", outputs(fidelity)),
        ("Gradients", gradients(fidelity)),
        (
            "Second order",
            "derivatives exist and are finite" if fidelity["double_backward"] else "missing or not checked",
        ),
    ]
    return tuple(rows)


_SECOND = {True: "2nd order yes", False: "2nd order no", None: "2nd order not tried"}


def _mode(fidelity: Mapping[str, Any]) -> str:
    if _is_module(fidelity):
        return "evaluation; --bn says what BatchNorm does at clients"
    return _SEMANTICS.get(fidelity.get("semantics", ""), "not recorded")


def _is_module(fidelity: Mapping[str, Any]) -> bool:
    return bool(fidelity.get("origin", "").startswith("PyTorch"))


def batchnorm(fidelity: Mapping[str, Any]) -> str:
    """What became of BatchNorm, and how that was recognised."""
    how = fidelity.get("batchnorm_evidence")
    return f"{fidelity['batchnorm']}: {how}" if how else str(fidelity["batchnorm"])


def outputs(fidelity: Mapping[str, Any]) -> str:
    """How far outputs agree with ONNX Runtime.

    >>> outputs({"parity": {"1": 2e-7, "2": 3e-7}, "parity_max_error": 3e-7})
    'differ from ONNX Runtime by 2e-07 at batch 1 and 3e-07 at batch 2, of the largest logit'
    """
    errors = fidelity.get("parity") or {}
    if errors:
        each = " and ".join(f"{figures.tiny(error)} at batch {size}" for size, error in errors.items())
        return f"differ from ONNX Runtime by {each}, of the largest logit"
    if fidelity["parity_max_error"] is not None:
        return f"differ from ONNX Runtime by {figures.tiny(fidelity['parity_max_error'])} of the largest logit"
    if _is_module(fidelity):
        return "nothing to compare: the module itself runs"
    return "not compared with ONNX Runtime"


def gradients(fidelity: Mapping[str, Any]) -> str:
    """How far gradients agree with finite differences."""
    error = fidelity["gradient_check"]
    return (
        "not compared with finite differences"
        if error is None
        else (f"differ from finite differences by {figures.tiny(error)}, relative")
    )


def in_short(fidelity: Mapping[str, Any]) -> tuple[str, ...]:
    """The block in one line of a terminal, or in two where an export would help."""
    if fidelity["upper_bound"]:
        return "UPPER BOUND: BatchNorm was folded at export, clients train another graph", f"Run {RECIPE}"
    parity, gradient = fidelity["parity_max_error"], fidelity["gradient_check"]
    outputs_in_short = "module itself" if _is_module(fidelity) else "outputs unchecked"
    parts = (
        f"BatchNorm {fidelity['batchnorm']}",
        outputs_in_short if parity is None else f"outputs {figures.tiny(parity)}",
        "gradients unchecked" if gradient is None else f"gradients {figures.tiny(gradient)}",
        _SECOND[fidelity["double_backward"]],
    )
    return (", ".join(parts),)
