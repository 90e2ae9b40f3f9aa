"""Which of a model's outputs the loss reads, and how the logits of single frames become those of a clip."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from auditor.errors import NotAuditable, UsageError
from auditor.records import Activation, OutputSpec, TemporalPool
from auditor.text import printable

PREFERRED = ("logits", "out", "output", "pred", "preds")
# Operations between an activation and the end of a forward pass that leave its values what they are.
_NEUTRAL = ("View", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Permute", "Alias", "Clone", "Mean", "Select", "T")
_ENDINGS: Mapping[str, Activation] = {"LogSoftmax": "log-softmax", "Softmax": "softmax", "Sigmoid": "sigmoid"}


def parts(outputs: Any) -> dict[str, Any]:
    """Return the outputs of a network by name; by position where they have none.

    Dicts (also Hugging Face's `ModelOutput`), tuples, lists, named tuples, dataclasses and plain objects are opened,
    one level deep.
    """
    if isinstance(outputs, Mapping):
        return {str(name): value for name, value in outputs.items()}
    if isinstance(outputs, tuple) and hasattr(outputs, "_asdict"):
        return dict(outputs._asdict())
    if isinstance(outputs, (tuple, list)):
        return {str(i): value for i, value in enumerate(outputs)}
    if is_dataclass(outputs):
        return {field.name: getattr(outputs, field.name) for field in fields(outputs)}
    return dict(getattr(outputs, "__dict__", {}))


def chosen(names: tuple[str, ...], wanted: str | None, floating: tuple[str, ...]) -> str:
    """Return the name of the output that is read: the one asked for, a name that says logits, or the first.

    Raises
    ------
    UsageError
        There is no such output.
    NotAuditable
        No output is a floating-point tensor.
    """
    if wanted is not None:
        if wanted in names:
            return wanted
        if wanted.lstrip("-").isdigit() and -len(names) <= int(wanted) < len(names):
            return names[int(wanted)]
        raise UsageError(
            f"--model-output {printable(wanted)} is none of the model's {len(names)} outputs", f"use {_listed(names)}"
        )
    for name in PREFERRED:
        if name in floating:
            return name
    if not floating:
        raise NotAuditable(
            f"no output of the model is a floating-point tensor ({_listed(names) or 'there is none'})",
            "return the logits from forward",
        )
    return floating[0]


def select(outputs: Any, wanted: str | None) -> Tensor:
    """Return the tensor that the loss reads.

    Raises
    ------
    UsageError, NotAuditable
        See `chosen`.
    """
    if isinstance(outputs, Tensor):
        if wanted is not None and wanted not in ("0", "-1"):
            raise UsageError(
                f"--model-output {printable(wanted)}: the model has a single output", "leave --model-output out"
            )
        return outputs
    named = parts(outputs)
    if not named:
        kind = printable(type(outputs).__name__)
        raise NotAuditable(f"the model returns {kind}, not a tensor of logits", "return the logits from forward")
    value = named[chosen(tuple(named), wanted, floating(named))]
    if not isinstance(value, Tensor):
        kind = printable(type(value).__name__)
        raise UsageError(
            f"--model-output {printable(str(wanted))} is {kind}, not a tensor", f"use {_listed(floating(named))}"
        )
    return value


def floating(named: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the floating-point tensors."""
    return tuple(name for name, v in named.items() if isinstance(v, Tensor) and v.is_floating_point())


def pooled(logits: Tensor, clips: int, pool: TemporalPool | None) -> Tensor:
    """Return logits by clip, `(clip, class)`, or by frame, `(clip, frame, class)`.

    Frames that travel in the batch are averaged unless told otherwise (the mean is what the mean of the features would
    give too, since the last layer is linear). A model with an output for every frame keeps them all (`each`), because
    training code applies the loss to each frame with the clip's label.
    """
    if logits.dim() == 1:
        logits = logits.unsqueeze(1)
    if logits.shape[0] != clips and logits.shape[0] % clips == 0:
        logits = logits.reshape(clips, -1, *logits.shape[1:])
        pool = pool or "mean"
    if logits.dim() != 3 or pool in (None, "each"):
        return logits
    if pool == "mean":
        return logits.mean(1)
    return logits[:, -1] if pool == "last" else logits.amax(1)


def activation(output: Tensor) -> Activation:
    """Return what an output with a gradient ends in, by the last operation that autograd recorded."""
    node: Any = output.grad_fn
    while node is not None:
        name = str(node.name())
        for ending, word in _ENDINGS.items():
            if name.startswith(ending):
                return word
        if not name.startswith(_NEUTRAL):
            return "none"
        node = next((following for following, _ in node.next_functions if following is not None), None)
    return "none"


def described_output(model: Any, outputs: Any, clips: int, wanted: str | None) -> OutputSpec:
    """Say what of the outputs of some clips is read, how many frames have one of their own, and what it ends in.

    `outputs` are everything that the network returned where gradients are kept.
    """
    logits = model.logits_of(outputs, clips)
    named = {} if isinstance(outputs, Tensor) else parts(outputs)
    name = chosen(tuple(named), wanted, floating(named)) if named else ""
    return OutputSpec(
        activation=activation(logits),
        frames=logits.shape[1] if logits.dim() == 3 else 0,
        name=name,
        others=tuple(other for other in named if other != name),
    )


def output_notes(output: OutputSpec, pool: TemporalPool | None) -> list[str]:
    """Say what was chosen where the model leaves a choice."""
    notes = []
    if output.others:
        notes.append(
            f"Of the model's {len(output.others) + 1} outputs the loss reads '{printable(output.name, 60)}' alone "
            f"(not {_listed(output.others)}); give --model-output to choose another. Losses on further outputs, such "
            "as deep supervision, are left out."
        )
    if output.frames > 1 and pool is None:
        notes.append(
            f"The model has an output for each of {output.frames} frames: the loss is averaged over them, each with "
            "the clip's label; give --temporal-pool mean, last or max if clients train on one output a clip."
        )
    return notes


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(printable(name, 40) for name in names[:8]) + (", ..." if len(names) > 8 else "")
