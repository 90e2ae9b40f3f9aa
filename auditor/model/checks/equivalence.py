"""Whether two forms of one model agree: outputs, parameters by name, gradients."""

from collections.abc import Mapping
from dataclasses import field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from auditor.model.checks.describe import sample_clips
from auditor.model.checks.parity import TOLERANCE, difference
from auditor.records import BatchNormMode, Target, record
from auditor.text import printable

BATCHES = (1, 3)
TRAINED = 2  # clips for gradients and for batch statistics
GRADIENT_TOLERANCE = 1e-3
# A gradient below this share of the model's largest is rounding.
NEGLIGIBLE = 1e-6
SHOWN = 3


@record
class Agreement:
    """How far a second form of a model computes what the first one does.

    Attributes
    ----------
    outputs
        Largest difference relative to the largest logit, by batch size, with running statistics.
    batch_statistics
        The same at batch 2 with batch statistics; None without BatchNorm.
    gradient
        Largest difference of any parameter's gradient, relative to the largest entry of that gradient.
    matched, parameters
        How many parameters are found under their own names with equal values, and how many there are.
    unused
        Names of parameters that the output does not depend on, which a graph cannot hold.
    failure
        What does not agree, in words; empty if all does.
    """

    outputs: Mapping[int, float] = field(default_factory=dict)
    batch_statistics: float | None = None
    gradient: float | None = None
    matched: int = 0
    parameters: int = 0
    unused: tuple[str, ...] = ()
    failure: str = ""


def verify(ours: Target, theirs: Target) -> Agreement:
    """Compare `theirs` with `ours`, the reference: values under equal names, outputs in both modes, gradients."""
    clips = sample_clips(ours.input, max(BATCHES), 1)
    first, second = ours.parameters, theirs.parameters
    labels = torch.arange(TRAINED) % ours.classes
    ours.model.batchnorm("eval")
    theirs.model.batchnorm("eval")
    wanted, found = _gradients(ours, clips[:TRAINED], labels), _gradients(theirs, clips[:TRAINED], labels)
    used = {name for name, gradient in wanted.items() if gradient is not None}
    matched = [
        n for n in first if n in second and first[n].shape == second[n].shape and torch.equal(first[n], second[n])
    ]
    unused = tuple(n for n in first if n not in used and n not in second)
    result = Agreement(matched=len(matched), parameters=len(first), unused=unused)
    lost = [n for n in first if n in used and n not in matched]
    if lost:
        return replace(result, failure=f"{len(lost)} of {len(first)} parameters are missing or changed: {_names(lost)}")
    if extra := [n for n in second if n not in first]:
        return replace(result, failure=f"{len(extra)} parameters are not the module's: {_names(extra)}")
    outputs = {size: _outputs_differ(ours, theirs, clips[:size], "eval") for size in BATCHES}
    trained = _outputs_differ(ours, theirs, clips[:TRAINED], "train") if ours.fidelity.batchnorm == "kept" else None
    gradient = max(_gradient_error(wanted[n], found.get(n), wanted) for n in used)
    failure = ""
    if not max(outputs.values()) <= TOLERANCE:
        failure = f"outputs differ by {max(outputs.values()):.1e} of the largest logit"
    elif trained is not None and not trained <= TOLERANCE:
        failure = f"outputs with batch statistics differ by {trained:.1e} of the largest logit"
    elif not gradient <= GRADIENT_TOLERANCE:
        failure = f"gradients differ by {gradient:.1e}"
    elif ours.fidelity.batchnorm != theirs.fidelity.batchnorm and theirs.fidelity.upper_bound:
        failure = "BatchNorm was merged into other weights"
    elif theirs.fidelity.batch != "dynamic":
        failure = f"the batch is {theirs.fidelity.batch}"
    return replace(result, outputs=outputs, batch_statistics=trained, gradient=gradient, failure=failure)


def _gradients(target: Target, clips: Tensor, labels: Tensor) -> dict[str, Tensor | None]:
    names, values = zip(*target.parameters.items(), strict=True)
    loss = F.cross_entropy(target.model(clips), labels)
    return dict(zip(names, torch.autograd.grad(loss, values, allow_unused=True), strict=True))


def _outputs_differ(ours: Target, theirs: Target, clips: Tensor, mode: BatchNormMode) -> float:
    answers = []
    for target in (ours, theirs):
        target.model.batchnorm(mode)
        try:
            with torch.no_grad():
                answers.append(target.model(clips))
        finally:
            target.model.batchnorm("eval")
    return difference(answers[1], answers[0])


def _gradient_error(wanted: Tensor | None, found: Tensor | None, all_wanted: Mapping[str, Tensor | None]) -> float:
    if wanted is None or found is None:
        return float("inf")
    largest = max(float(g.abs().max()) for g in all_wanted.values() if g is not None and g.numel())
    scale = max(float(wanted.abs().max()), NEGLIGIBLE * largest, 1e-30)
    return float((wanted - found).abs().max()) / scale


def _names(names: list[str]) -> str:
    shown = ", ".join(printable(name, 60) for name in names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"
