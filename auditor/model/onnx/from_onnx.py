"""An ONNX file becomes a Target: imported, compared with ONNX Runtime, its batch released where that is exact."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from dataclasses import field, replace
from pathlib import Path
from threading import Thread

import torch
from onnx import ModelProto, TensorProto, ValueInfoProto
from torch import Tensor

from auditor.errors import AuditError, NotAuditable, UsageError
from auditor.model.checks.channel_axis import layout_of
from auditor.model.checks.describe import count_classes, described, sample_clips
from auditor.model.checks.parity import HALF_TOLERANCE, TOLERANCE, NoRuntimeError, difference, runtime
from auditor.model.clip_input import AXES, deduced_layout, model_shape, without_batch
from auditor.model.onnx.batchnorm import batchnorm_state, is_training
from auditor.model.onnx.custom_operators import read_operators
from auditor.model.onnx.disagreement import Tried, answers_to, disagreement
from auditor.model.onnx.file_outputs import keep_output
from auditor.model.onnx.frozen_batch import in_parts
from auditor.model.onnx.graph import Graph, operator_counts, read_graph
from auditor.model.onnx.interpreter import OnnxModule
from auditor.model.onnx.operators import OPERATORS, Operators
from auditor.model.onnx.parameters.copied_parameters import copies_joined
from auditor.model.onnx.parameters.logit_scale import scale_notes
from auditor.model.onnx.parameters.merged_parameters import taken_apart
from auditor.model.onnx.parameters.packed_weights import check_not_packed
from auditor.model.onnx.parameters.shadowed_names import separate
from auditor.model.onnx.parameters.trainable_constants import Roles, roles
from auditor.model.onnx.reexport import COMMAND, reexport_line
from auditor.model.onnx.several_inputs import HIDES_NOTHING, one_clip
from auditor.model.onnx.stochastic_depth import keep_branches
from auditor.model.onnx.support import WAYS_FORWARD, check_supported
from auditor.model.onnx.tracing import NodeError
from auditor.model.pixel_range import assumed_range, with_range
from auditor.model.reading_options import LoadOptions
from auditor.model.sandbox.onnx_file import OnnxFile, read_onnx
from auditor.model.video import VideoModel
from auditor.records import Fidelity, Layout, Target, record
from auditor.runtime_process import abandon, warm_up
from auditor.text import printable

# Types that hold 0 to 255.
INTEGERS = (
    TensorProto.UINT8, TensorProto.UINT16, TensorProto.INT16, TensorProto.UINT32, TensorProto.INT32,
    TensorProto.UINT64, TensorProto.INT64,
)  # fmt: skip


@record
class Parity:
    """Largest relative difference from ONNX Runtime by batch size, or why there is none."""

    errors: Mapping[int, float] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


def load_onnx(path: Path, options: LoadOptions, *, other_masks: bool = False) -> Target:
    """Load an ONNX file; `other_masks` as in `several_inputs.one_clip`.

    Raises
    ------
    UsageError, NotAuditable
        See `loading.load`.
    """
    warm_up()  # it imports while the file is parsed
    operators = {**OPERATORS, **read_operators(options.onnx_ops)}
    file, graph, found, told = understood(path, operators, options.model_output, other_masks=other_masks)
    check_modality(file.model)
    shape, batch, layout = declared_input(file.model, options)
    module = OnnxModule(graph, found, batch, operators).eval()
    spec = options.spec(shape, "read from the model file", layout=layout or layout_of(module, shape, batch or 1))
    model = VideoModel(module, spec, pool=options.temporal_pool)
    model, ranged = with_range(model, options, integers=integer_input(file.model))
    counted = replace(found.unaccounted, assumed=assumed_range(spec, model.spec))
    spec = model.spec
    clips = sample_clips(spec, 2, options.seed)
    if batch is not None and batch > 1:
        module.clip_by_clip = not _runs(model, clips[:1])
    if not other_masks and any(HIDES_NOTHING in note for note in told) and _hidden(model, clips):
        return load_onnx(path, options, other_masks=True)
    singles, both = [model.prepare(clip[None]) for clip in clips], model.prepare(clips)
    if integer_input(file.model):
        singles, both = [x.round() for x in singles], both.round()
    with needed(witnessed(file.model, singles, batch)) as theirs:
        classes = count_classes(model, clips[:1], options.classes)
        parity, batching, notes = compare(theirs, module, singles, both, bool(file.precisions))
    notes = [*told, *ranged, *found.notes, *notes]
    if file.precisions:
        notes.insert(0, f"Weights in {', '.join(file.precisions)} were converted to float32.")
    return described(
        model, spec, classes, options, path.stem, "onnx", file.sha256, operator_counts(graph),
        replace(file_fidelity(file.model, graph, model_shape(spec), parity, batching, notes), unaccounted=counted),
    )  # fmt: skip


def file_fidelity(
    proto: ModelProto, graph: Graph, shape: tuple[int, ...], parity: Parity, batching: str, notes: list[str]
) -> Fidelity:
    """Say what the file itself tells about the gradients; `shape` is one input without batch."""
    opset = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    state = batchnorm_state(graph, proto.producer_name)
    line = reexport_line(shape, opset) if state.word in ("folded", "maybe folded") else ""
    if state.word == "folded":
        notes.append(
            "Batch normalisation was merged into other weights at export: these are not the gradients that clients "
            f"send, and results are an upper bound. Export again with {COMMAND}, or with {line}."
        )
    elif state.word == "maybe folded":
        notes.append(
            "Batch normalisation may have been merged into other weights at export. If the model has any, export it "
            f"again with {COMMAND}, or with {line}."
        )
    writer = printable(f"{proto.producer_name} {proto.producer_version}".strip(), 60) or "a program it does not name"
    return Fidelity(
        parity_max_error=max(parity.errors.values(), default=None),
        gradient_check=None,
        double_backward=False,
        batchnorm=state.word,
        batch=batching,
        upper_bound=state.word == "folded",
        notes=tuple(notes),
        origin=f"ONNX, opset {opset}, written by {writer}",
        semantics="train" if any(is_training(node) for node in graph.walk()) else "eval",
        batchnorm_evidence=state.how,
        parity=parity.errors,
        missing=parity.missing,
        reexport=line,
    )


def understood(
    path: Path, operators: Operators, output: str | None = None, *, other_masks: bool = False
) -> tuple[OnnxFile, Graph, Roles, list[str]]:
    try:
        file = read_onnx(path)
        told = keep_output(file.model, output)
        told += one_clip(file.model, other_masks=other_masks)
        separate(file.model.graph)
        told += keep_branches(file.model.graph)
        graph = read_graph(file.model)
        if not graph.inputs:
            raise NotAuditable("the graph reads no input", "export a model that reads a clip")
        graph, merged = taken_apart(graph)
        graph, joined = copies_joined(graph)
        notes = [*told, *check_supported(graph, operators), *merged, *joined]
        check_not_packed(graph)
        found = roles(graph, {key: operator.weights for key, operator in operators.items() if operator.origin})
        notes += scale_notes(graph, found.parameters)
    except AuditError:
        raise
    except Exception as error:  # a file can be damaged in more ways than can be listed
        what = printable(f"{type(error).__name__}: {error}".split("\n")[0], 200)
        raise NotAuditable(
            f"{printable(path.name)} is a truncated or damaged ONNX file ({what})",
            "copy it again or export the model again",
        ) from error
    if not found.parameters:
        raise NotAuditable(
            "the graph holds no trainable float parameter", "export the model itself, not a preprocessing step"
        )
    return file, graph, found, notes


def _runs(model: VideoModel, clip: Tensor) -> bool:
    try:
        with torch.no_grad():
            model(clip)
    except (NodeError, RuntimeError):
        return False
    return True


def _hidden(model: VideoModel, clips: Tensor) -> bool:
    """Tell whether logits are no numbers, or the same for two clips, as where a mask hides all of them."""
    try:
        with torch.no_grad():
            first, other = (model(clip[None]) for clip in clips)
    except (NodeError, RuntimeError):
        return False
    return not bool(torch.isfinite(first).all()) or torch.equal(first, other)


def check_modality(model: ModelProto) -> None:
    """Refuse a file whose input has too few axes for frames, and say what such inputs usually are.

    Raises
    ------
    NotAuditable
        It has two or three axes, the batch included.
    """
    value = _clip_input(model)
    axes = len(value.type.tensor_type.shape.dim)
    if axes not in (2, 3):
        return
    if value.type.tensor_type.elem_type in (TensorProto.INT64, TensorProto.INT32):
        what = "numbers of tokens, as models of text do"
    elif axes == 2:
        what = "one row of numbers, as models of tables, of features and of raw sound do"
    else:
        what = "sequences of rows, as models of sound and of features do"
    raise NotAuditable(
        f"the model reads {what}: its input '{printable(value.name, 40)}' has {axes} axes",
        "give a model of clips or frames; one that reads features of clips goes in as --head, with its --extractor",
    )


def _clip_input(model: ModelProto) -> ValueInfoProto:
    initializers = {tensor.name for tensor in model.graph.initializer}
    return next(value for value in model.graph.input if value.name not in initializers)


def declared_input(model: ModelProto, options: LoadOptions) -> tuple[tuple[int, ...], int | None, Layout | None]:
    """Return one clip's shape without batch, the batch size that the file fixes (None if it is open), and the layout.

    A model of single frames takes a shape of several frames: then frames travel in its batch.
    """
    given, layout = options.input_shape, options.layout
    value = _clip_input(model)
    dims = list(value.type.tensor_type.shape.dim)
    known = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in dims]
    labels = [printable(dim.dim_param or "?", 30) for dim in dims]
    rank = len(dims) - 1 if dims else None
    shown = "(" + ", ".join(str(k) if k else label for k, label in zip(known, labels, strict=True)) + ")"
    batch = known[0] if known else None
    if layout is not None and layout in AXES and rank not in (None, len(AXES[layout])):
        raise UsageError(f"layout {layout} does not fit the model's input {shown}", "correct --layout or leave it out")
    if given is None:
        open_dims = [label for k, label in list(zip(known, labels, strict=True))[1:] if k is None]
        if rank is None or open_dims:
            what = f"leaves {', '.join(open_dims)} open" if open_dims else "declares no input shape"
            raise UsageError(
                f"the model {what}: input {shown}", "give --input-shape, one clip in this order without batch"
            )
        return tuple(k for k in known[1:] if k), batch, layout
    shape = without_batch(given, rank)
    if rank is not None and (
        len(shape) != rank or any(k not in (None, s) for k, s in zip(known[1:], shape, strict=True))
    ):
        raise UsageError(
            f"--input-shape {given} contradicts the model's input {shown}", "leave --input-shape out or correct it"
        )
    if rank == 3 and len(given) == 4 and given[0] > 1:
        return given, batch, layout or deduced_layout(shape)
    return shape, batch, layout


def integer_input(model: ModelProto) -> str:
    """Return the name of the unsigned or wide integer type that a file declares for its clip; empty for any other."""
    value = _clip_input(model)
    kind = value.type.tensor_type.elem_type
    return str(TensorProto.DataType.Name(kind)).lower() if kind in INTEGERS else ""


def witnessed(proto: ModelProto, singles: Sequence[Tensor], fixed: int | None) -> Future[list[Tensor]]:
    """Start ONNX Runtime on inputs of one clip each, in its own process and beside the importer.

    `fixed` is the batch that the file was written for. The result raises `NoRuntimeError`.
    """
    answer: Future[list[Tensor]] = Future()

    def ask() -> None:
        try:
            run = runtime(proto)
            found = [] if answer.cancelled() else [in_parts(run, x, fixed or x.shape[0]) for x in singles]
            with suppress(InvalidStateError):  # nobody asks any more
                answer.set_result(found)
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever asks for the result
            with suppress(InvalidStateError):
                answer.set_exception(error)

    Thread(target=ask, daemon=True, name="onnxruntime").start()
    return answer


@contextmanager
def needed(witness: Future[list[Tensor]]) -> Iterator[Future[list[Tensor]]]:
    """Give up the witness when the importer refuses the file: what made it refuse may keep the other busy for long."""
    try:
        yield witness
    except BaseException:
        if witness.cancel():
            abandon()
        raise


def compare(
    witness: Future[list[Tensor]], module: OnnxModule, singles: Sequence[Tensor], both: Tensor, narrow: bool
) -> tuple[Parity, str, list[str]]:
    """Compare outputs with ONNX Runtime at batch 1 and 2, and settle how batches run: at once, released, or in parts.

    `witness` holds what ONNX Runtime makes of `singles`, two inputs as the file reads them; `both` is the same as one
    batch.

    Returns
    -------
    parity, batch, notes
        As `records.Fidelity` holds them.
    """
    fixed = module.traced_batch
    notes: list[str] = []
    missing: tuple[str, ...] = ()
    try:
        theirs = witness.result()
    except NoRuntimeError as absent:
        missing = (f"Outputs were not compared with ONNX Runtime: {absent.reason}.",)
        theirs = []
    tolerance = HALF_TOLERANCE if narrow else TOLERANCE
    tries: list[Tried] = []
    failure = ""
    size = fixed or singles[0].shape[0]
    attempts = [
        (fixed, False, "unfrozen" if fixed else "dynamic"),
        (size, False, "unfrozen"),
        (size, True, f"frozen at {size}"),
    ]
    for traced, apart, word in attempts if fixed is None else [attempts[0], attempts[2]]:
        if (traced, apart) != (module.traced_batch, module.clip_by_clip):
            module.traced_batch, module.clip_by_clip = traced, apart
            module.forget()
        try:
            with torch.no_grad():
                # With a witness for both clips the second need not run alone.
                ours, together = [module(x) for x in (singles[:1] if theirs else singles)], module(both)
        except (NodeError, RuntimeError) as error:
            failure = str(error)
            continue
        parity = difference(ours[0], theirs[0]) if theirs else 0.0
        joint = difference(together, torch.cat(theirs or ours))
        tries.append(Tried(parity, joint, together.shape[0]))
        if not max(parity, joint) <= tolerance:
            if fixed is None and parity <= tolerance < joint < float("inf"):
                break  # the file lets batches in, and they mix
            continue
        if apart:
            notes.append(
                f"The file works for a batch of {size} only: batches run in parts of {size}, which is exact with "
                "running statistics; with batch statistics every part has its own. Export with a dynamic batch to "
                "avoid that."
            )
        errors = {1: parity, 2: joint} if theirs else {}
        return Parity(errors=errors, missing=missing), word, notes
    if not tries:
        raise NotAuditable(f"the graph does not run: {printable(failure, 300)}", WAYS_FORWARD)
    answers = answers_to(module, singles[0], fixed) if fixed is not None and singles[0].shape[0] == 1 else None
    raise disagreement(min(tries, key=lambda made: max(made.alone, made.joint)), tolerance, singles[0], fixed, answers)
