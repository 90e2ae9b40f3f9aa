"""What every model goes through, whatever it was loaded from: run once, observed, and its derivatives checked."""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from auditor.errors import AuditError, NotAuditable, UsageError
from auditor.model.checks.accounting import accounted, with_constants
from auditor.model.checks.affordable import affordable
from auditor.model.checks.checked import checked, slopes_told
from auditor.model.checks.cuts import Closed, closed_by_forward, seen_through
from auditor.model.checks.derivatives import smaller_clip
from auditor.model.checks.half_precision import rounded_notes
from auditor.model.checks.other_outputs import check_last, elsewhere_notes, read_elsewhere
from auditor.model.checks.output_axes import axis_notes, settled_axis
from auditor.model.checks.unread_parameters import unread_parameters
from auditor.model.clip_input import model_shape, questions, single_picture
from auditor.model.forward_constants import told_of
from auditor.model.forward_pass import Observation, observe
from auditor.model.layers import find_layers
from auditor.model.onnx.support import WAYS_FORWARD
from auditor.model.onnx.tracing import NodeError
from auditor.model.output import described_output, output_notes, select
from auditor.model.reading_options import LoadOptions
from auditor.model.training_step import observed_step
from auditor.model.two_part import TwoPart, find_layers_of_parts
from auditor.model.video import VideoModel
from auditor.records import Fidelity, InputSpec, Target, TrainingStep, Unaccounted
from auditor.text import printable

LARGEST_CLIP = 2**26  # 128 frames of 418 by 418 pixels in colour

# A clip, what a pass over it did, and what a training step on it costs.
Seen = tuple[Tensor, Observation, TrainingStep]


def sample_clips(spec: InputSpec, clips: int, seed: int) -> Tensor:
    """Return random clips whose pixels are whole steps of 1/255, so that integer inputs hold them too."""
    size = math.prod(spec.clip_shape)
    if size > LARGEST_CLIP:
        raise UsageError(
            f"a clip of shape {spec.clip_shape} has {size:.1e} numbers (at most {LARGEST_CLIP:.1e})",
            "give a smaller --input-shape, or export the model for a smaller clip",
        )
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (clips, *spec.clip_shape), generator=generator).float() / 255


def with_gradient(clip: Tensor) -> Tensor:
    """Return a copy that slopes are taken by, and that a network may write into."""
    return clip.detach().requires_grad_().clone()


def count_classes(model: VideoModel, clip: Tensor, wanted: int | None) -> int:
    """Run one clip and return the number of classes.

    Raises
    ------
    NotAuditable
        The model fails, or returns something other than logits.
    UsageError
        There are not as many classes as the user said.
    """
    shape = model_shape(model.spec)
    try:
        with torch.no_grad():
            outputs = model.outputs(clip)
        output = select(outputs, model.wanted_output)
        model.class_axis = settled_axis(model, clip, output, wanted)
        logits = model.logits_of(outputs, clip.shape[0])
    except NodeError as error:
        raise NotAuditable(
            f"the graph does not run on a clip of shape {shape}: {error}", "check --input-shape, or " + WAYS_FORWARD
        ) from error
    except AuditError:
        raise
    except Exception as error:
        reason = printable(str(error).split("\n")[0] or type(error).__name__, 200)
        raise UsageError(
            f"the model fails on a clip of shape {shape}: {reason}", "check --input-shape and --layout"
        ) from error
    if logits.dim() not in (2, 3) or logits.shape[0] != 1:
        first = "return clips first, (clip, frame, class), or " if output.dim() > 2 and output.shape[0] > 1 else ""
        raise NotAuditable(
            f"the model returns shape {tuple(output.shape)} for one clip, not (1, classes) or (1, frames, classes)",
            f"{first}audit a classifier that returns logits, or choose another output with --model-output",
        )
    if not logits.is_floating_point():
        raise NotAuditable("the model returns integers, not logits", "return the logits from forward")
    if not bool(torch.isfinite(logits).all()):
        raise NotAuditable(
            "the model returns NaN or infinity on a clip of noise",
            "check the weights, --mean and --std, and what was set of further inputs",
        )
    if wanted is not None and logits.shape[-1] != wanted:
        raise UsageError(f"the model has {logits.shape[-1]} classes, not {wanted}", "correct --classes or leave it out")
    return int(logits.shape[-1])


def seen_once(model: VideoModel, clip: Tensor) -> Seen:
    """Run a clip once, with what its slopes need, and count what that takes."""
    clip = with_gradient(clip)
    return clip, *observed_step(model, clip)


def described(
    model: VideoModel,
    spec: InputSpec,
    classes: int,
    options: LoadOptions,
    name: str,
    form: str,
    sha256: str,
    operators: Mapping[str, int],
    fidelity: Fidelity,
    frozen: tuple[str, ...] = (),
    seen: list[Seen] | None = None,
) -> Target:
    """Observe the layers, check the derivatives, and put everything together.

    `fidelity` holds what the source alone tells; what the checks find is added to it. `frozen` names the parameters
    that the source keeps from training; `seen` holds `seen_once` of a sample clip, where that was run already, and is
    emptied, so that what the pass kept can go.

    Raises
    ------
    NotAuditable
        Gradients are wrong, or outputs change from run to run.
    """
    notes, missing = [*questions(spec), *single_picture(spec), *fidelity.notes], list(fidelity.missing)
    clip, observation, step = seen.pop() if seen else seen_once(model, sample_clips(spec, 1, options.seed))
    constants = observation.constants
    notes += rounded_notes(observation.halves)
    idle = unread_parameters(model, clip.detach(), observation.readings, frozen)
    notes += [idle.note] if idle.note else []
    parameters = dict(model.named_parameters())
    # An extractor of two parts is closed by this package.
    closed = Closed() if isinstance(model.network, TwoPart) else closed_by_forward(parameters)
    notes += [closed.note] if closed.note else []
    if isinstance(model.network, TwoPart):
        layers = find_layers_of_parts(model.network, parameters, observation.readings)
    else:
        layers = find_layers(model.network, parameters, observation.readings)
    check_last(model, observation.output)
    output = described_output(model, observation.output, len(clip), model.wanted_output)
    axis = axis_notes(model, tuple(select(observation.output, model.wanted_output).shape))
    notes += axis + output_notes(output, options.temporal_pool)
    share = 1.0
    small = smaller_clip(model, clip.detach())
    if small.shape != clip.shape:
        share = small.numel() / clip.numel()
        (frames, _, height, width), (fewer, _, low, narrow) = clip.shape[1:], small.shape[1:]
        notes.append(
            f"Derivatives were checked on clips of {fewer}x{low}x{narrow}, which the network reads as well as "
            f"{frames}x{height}x{width}: the functions are the same, and the whole size takes minutes."
        )
        clip = with_gradient(small)
        observation = observe(model, clip, model.outputs)
    first = model.logits_of(observation.output, len(clip)).detach()
    opened = seen_through(model, clip.detach())
    notes += [opened.note] if opened.note else []
    if opened.model is not model:
        model = opened.model
        observation = observe(model, clip, model.outputs)
    checks = affordable(step, share)
    logits = model.logits_of(observation.output, len(clip))
    if not logits.requires_grad:
        raise NotAuditable(
            "the logits have no gradient: forward computes all of them under torch.no_grad, or detaches them",
            "return the network as clients train it",
        )
    elsewhere = read_elsewhere(model, observation.output, logits)
    read = {name for reading in observation.readings for name in reading.parameters} - elsewhere
    read = read.difference(opened.frozen, closed.names)
    del observation  # what the pass kept would stay through the checks that follow
    hidden, told = slopes_told(model, clip, read, logits, checks)
    told += elsewhere_notes(elsewhere)
    del logits
    found = checked(model, clip.detach(), (first, opened.logits), told, checks, form, options.seed)
    constants += model.constants_behind_numbers
    counted = with_constants(model, fidelity.unaccounted or Unaccounted(), constants, idle)
    return Target(
        name=printable(name),
        source="",
        format=form,
        sha256=sha256,
        model=model.to(options.device),
        input=spec,
        classes=classes,
        layers=layers,
        operators=operators,
        output=output,
        frozen=tuple(dict.fromkeys((*frozen, *closed.names, *opened.frozen))),
        cut=(*closed.names, *opened.frozen),
        dropout=model.drops,
        step=step,
        fidelity=replace(
            fidelity,
            gradient_check=found.gradient,
            double_backward=found.second,
            notes=(*notes, *told_of(constants), *found.notes),
            missing=(*missing, *found.missing),
            blind=(*hidden.blind, *opened.blind),
            unaccounted=accounted(model, counted, hidden, questions=questions(spec), axis_told=bool(axis)),
        ),
    )
