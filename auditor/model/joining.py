"""An extractor and a head become one Target: read each by itself, joined the only way that fits, checked together."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from auditor.errors import AuditError, NotAuditable, UsageError
from auditor.model.checks.describe import count_classes, described, sample_clips
from auditor.model.checks.parity import TOLERANCE, NoRuntimeError, difference
from auditor.model.double_backward import NEEDED_FOR
from auditor.model.forward_pass import observe
from auditor.model.onnx.from_onnx import integer_input
from auditor.model.onnx.interpreter import OnnxModule
from auditor.model.output import select
from auditor.model.parts import Part, settle, witness
from auditor.model.pixel_range import with_range
from auditor.model.reading_options import LoadOptions
from auditor.model.two_part import EXTRACTOR, HEAD, TwoPart, joined, possible_joins
from auditor.model.video import VideoModel
from auditor.records import Fidelity, Join, Target
from auditor.text import printable

# A head that mixes the clips of a batch differs by far more; batched products differ by rounding.
_SAME_CLIP = 1e-3
_EXAMPLE = "correct one of the parts, or write a head that brings the features into the shape it needs"


def compose(extractor: Part, head: Part, options: LoadOptions) -> Target:
    """Join two parts into one model whose extractor is frozen and whose head is trained.

    Raises
    ------
    UsageError
        The features do not enter the head, or in more than one way.
    NotAuditable
        A part fails or computes something else than ONNX Runtime.
    """
    spec = extractor.spec
    assert spec is not None
    clips = sample_clips(spec, 2, options.seed)
    integers = integer_input(extractor.file.model) if extractor.file is not None else ""
    view, ranged = with_range(VideoModel(extractor.network, spec), options, integers=integers)
    spec = view.spec
    singles, both = [view.prepare(clip[None]) for clip in clips], view.prepare(clips)
    if integers:
        singles, both = [x.round() for x in singles], both.round()
    _features(extractor, singles[0])
    extractor = settle(extractor, singles, both)
    features = [_features(extractor, x) for x in singles]
    rows = features[0].shape[0]
    join = _join(head, features, options.join)
    inputs = [joined(f, join, rows) for f in features]
    head = settle(head, inputs, torch.cat(inputs))
    network = TwoPart(extractor.network, head.network, join, rows)
    # Of an ONNX head nothing but the wanted output was read.
    wanted = options.model_output if head.file is None else None
    model = VideoModel(network, spec, pool=options.temporal_pool, output=wanted)
    classes = count_classes(model, clips[:1], options.classes)
    model = model.over(network, not observe(model, clips[:1]).operators.isdisjoint(NEEDED_FOR))
    fidelity = _fidelity(extractor, head, network, singles, both)
    fidelity = replace(fidelity, notes=(_join_note(join, features[0], inputs[0]), *ranged, *fidelity.notes))
    target = described(
        model, spec, classes, options, f"{extractor.name} + {head.name}", "two-part", _digest(extractor, head),
        dict(Counter(extractor.operators) + Counter(head.operators)), fidelity,
        (
            *(f"{EXTRACTOR}.{name}" for name, _ in extractor.network.named_parameters()),
            *(f"{HEAD}.{name}" for name in head.frozen),
        ),
    )  # fmt: skip
    return replace(target, parts=(extractor.described(), head.described()))


def _digest(extractor: Part, head: Part) -> str:
    return hashlib.sha256(f"{EXTRACTOR} {extractor.sha256}\n{HEAD} {head.sha256}\n".encode()).hexdigest()


def _features(extractor: Part, x: Tensor) -> Tensor:
    """Run the extractor on one clip.

    Raises
    ------
    UsageError, NotAuditable
        It fails, or returns something that is no features.
    """
    try:
        with torch.no_grad():
            features = select(extractor.network(x), None)
    except AuditError:
        raise
    except Exception as error:
        reason = printable(str(error).split("\n")[0] or type(error).__name__, 200)
        raise UsageError(
            f"the extractor fails on an input of shape {tuple(x.shape)}: {reason}", "check --input-shape and --layout"
        ) from error
    if features.dim() < 2 or not features.is_floating_point():
        raise NotAuditable(
            f"the extractor returns {features.dtype} of shape {tuple(features.shape)} for one clip",
            "return features with a batch axis, in floating point",
        )
    if not bool(torch.isfinite(features).all()):
        raise NotAuditable(
            "the extractor returns NaN or infinity on a clip of noise", "check --mean, --std and --range"
        )
    return features


def _join(head: Part, features: list[Tensor], wanted: Join | None) -> Join:
    """Return how features enter the head: what the user said, else the only way that fits on the first level."""
    shape = tuple(features[0].shape)
    if wanted is not None:
        reason = _obstacle(head, features, wanted, (2, 3))
        if reason:
            raise UsageError(f"--join {wanted} does not fit: {reason}", "leave --join out, or correct one of the parts")
        return wanted
    for answer in ((2,), (2, 3)):
        for level in possible_joins(shape):
            fitting = [join for join in level if not _obstacle(head, features, join, answer)]
            if len(fitting) > 1:
                raise UsageError(
                    f"features of shape {shape} for one clip enter the head in more than one way "
                    f"({' and '.join(fitting)})",
                    " or ".join(f"--join {join}" for join in fitting),
                )
            if fitting:
                return fitting[0]
    reason = _obstacle(head, features, "none", (2, 3))
    raise UsageError(f"the head does not fit the extractor: {reason}", _EXAMPLE)


def _obstacle(head: Part, features: list[Tensor], join: Join, answer: tuple[int, ...]) -> str:
    """Say why features do not enter the head this way, naming both shapes; an empty text when they do."""
    inputs = [joined(f, join, features[0].shape[0]) for f in features]
    shape = tuple(inputs[0].shape)
    given = f"the extractor gives features of shape {tuple(features[0].shape)} for one clip"
    if shape != tuple(features[0].shape):
        given += f", {shape} after --join {join}"
    if head.reads is not None and (
        len(head.reads) != len(shape) - 1
        or any(want not in (None, have) for want, have in zip(head.reads, shape[1:], strict=True))
    ):
        declared = ", ".join("?" if extent is None else str(extent) for extent in head.reads)
        return f"{given}, the head reads (N, {declared})"
    # A file that fixes the batch runs no other yet; `settle` sees to that.
    alone = isinstance(head.network, OnnxModule)
    try:
        with torch.no_grad():
            outputs = [_logits(head, x) for x in (inputs[:1] if alone else [*inputs, torch.cat(inputs)])]
    except AuditError as error:
        return f"{given}, and the head returns no logits for them ({error.cause})"
    except Exception as error:  # noqa: BLE001 - a user's module may raise anything; the reason is shown
        reason = printable(str(error).split("\n")[0] or type(error).__name__, 200)
        return f"{given}, and the head fails on them: {reason}"
    first = outputs[0]
    if first.dim() not in answer or first.shape[0] != shape[0]:
        return f"{given}, and the head makes {tuple(first.shape)} of them, which is not (N, classes)"
    if not alone and not difference(outputs[2], torch.cat(outputs[:2])) <= _SAME_CLIP:
        return f"{given}, and the head mixes the clips of a batch"
    return ""


def _logits(head: Part, x: Tensor) -> Tensor:
    output = head.network(x)
    return output if isinstance(output, Tensor) else select(output, None)


def _join_note(join: Join, features: Tensor, entering: Tensor) -> str:
    rows, before, after = features.shape[0], tuple(features.shape), tuple(entering.shape)
    how = {
        "none": "enter the head as they are",
        "sequence": f"enter the head as a sequence {after}",
        "flatten": f"enter the head as one vector {after}",
        "pool": f"are averaged over their extent to {after}",
        "pool-sequence": f"are averaged over their extent and enter the head as a sequence {after}",
        "mean": f"are averaged over their extent and over the {rows} rows of the clip to {after}",
    }[join]
    each = f"; the head answers for each of the {rows} rows" if rows > 1 and join in ("none", "pool") else ""
    return f"Features of shape {before} for one clip {how}{each} (--join {join})."


def _fidelity(extractor: Part, head: Part, network: TwoPart, singles: list[Tensor], both: Tensor) -> Fidelity:
    """Say of the composition what holds of the part that is trained, and compare its output with ONNX Runtime."""
    a, b = extractor.fidelity, head.fidelity
    parity: dict[int, float] = {}
    if extractor.file is not None or head.file is not None:
        parity = _composed_parity(extractor, head, network, singles, both)
    errors = [e for e in (a.parity_max_error, b.parity_max_error, *parity.values()) if e is not None]
    notes = [f"Extractor: {note}" for note in a.notes] + [f"Head: {note}" for note in b.notes]
    if max(parity.values(), default=0.0) > TOLERANCE:
        notes.append(
            f"The composed output differs from ONNX Runtime by {max(parity.values()):.1e} of the largest logit, more "
            "than either part by itself."
        )
    return replace(
        b,
        parity_max_error=max(errors, default=None),
        parity=parity,
        batch=b.batch if a.batch == b.batch else f"extractor {a.batch}, head {b.batch}",
        notes=tuple(notes),
        origin=f"two parts: extractor {a.origin}; head {b.origin}",
        missing=(*(f"Extractor: {m}" for m in a.missing), *(f"Head: {m}" for m in b.missing)),
    )


def _composed_parity(
    extractor: Part, head: Part, network: TwoPart, singles: list[Tensor], both: Tensor
) -> dict[int, float]:
    try:
        first, second = witness(extractor), witness(head)
        with torch.no_grad():
            theirs = [_run(first, second, network, x) for x in singles]
            ours = [select(network(x), None) for x in (singles[0], both)]
    except NoRuntimeError:  # told by each part
        return {}
    return {1: difference(ours[0], theirs[0]), 2: difference(ours[1], torch.cat(theirs))}


def _run(
    extractor: Callable[[Tensor], Tensor], head: Callable[[Tensor], Tensor], network: TwoPart, x: Tensor
) -> Tensor:
    return select(head(joined(select(extractor(x), None), network.join, network.rows)), None)
