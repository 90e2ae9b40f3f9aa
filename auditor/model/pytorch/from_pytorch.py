"""A model that is PyTorch already becomes a Target."""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from auditor.errors import AuditError, NotAuditable, UsageError
from auditor.model.checks.channel_axis import layout_of
from auditor.model.checks.derivatives import smaller_clip
from auditor.model.checks.describe import Seen, count_classes, described, sample_clips, seen_once
from auditor.model.checks.parity import TOLERANCE, difference
from auditor.model.clip_input import AXES, deduced_layout, input_spec, model_shape, without_batch
from auditor.model.double_backward import NEEDED_FOR, swap_modules
from auditor.model.pixel_range import assumed_range, with_range
from auditor.model.pytorch import Built
from auditor.model.pytorch.built import class_counts, digest, precision_hint, trained_form
from auditor.model.pytorch.exported import from_exported
from auditor.model.pytorch.factory import from_factory
from auditor.model.pytorch.fitting import CLASSES, fill
from auditor.model.pytorch.frozen import frozen_parameters
from auditor.model.pytorch.huggingface import from_huggingface
from auditor.model.pytorch.modality import check_not_quantised, of_flat_inputs, unknown_size
from auditor.model.pytorch.pickled import from_pickle
from auditor.model.pytorch.pretrained_models import from_pretrained
from auditor.model.pytorch.scripted import ScriptedNetwork, from_torchscript
from auditor.model.pytorch.timm_models import from_timm
from auditor.model.pytorch.torchvision_models import from_torchvision
from auditor.model.pytorch.weights import Weights, read_weights
from auditor.model.pytorch.wrapping import check_forward, wrapper_hint
from auditor.model.reading_options import LoadOptions
from auditor.model.sandbox.user_file import in_a_line
from auditor.model.surgery import Changed, change_network
from auditor.model.surgery.kept_weights import fill_in_part
from auditor.model.video import VideoModel
from auditor.records import Fidelity, InputSpec, Target, Unaccounted
from auditor.text import printable

ARCHIVES = {"exported": from_exported, "torchscript": from_torchscript, "pickle": from_pickle}
FRAME = 3  # axes of a picture
WITH_ARGUMENTS = ("pytorch", "torchvision", "timm", "pretrained")
ORIGINS = {
    "exported": "torch.export program, run as it is (trusted by the user)",
    "torchscript": "TorchScript archive, run as it is (trusted by the user)",
    "pickle": "pickled PyTorch module (trusted by the user)",
}
CLASSES_OF_A_FACTORY = "build the network for {count} classes, the number in the weights (--arg, not --classes)"


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A network with its weights, in float32 and evaluating; `frozen` names what the factory keeps from training."""

    built: Built
    network: nn.Module
    notes: tuple[str, ...]
    frozen: tuple[str, ...]


def open_pytorch(source: str, form: str, weights: Path | None, options: LoadOptions) -> Opened:
    """Build a module and load its weights.

    `form` is pytorch (a factory), torchvision, timm, hf, pretrained, or an archive: exported, torchscript, pickle.

    Raises
    ------
    UsageError, NotAuditable
        See `loading.load`.
    """
    if options.arg and form not in WITH_ARGUMENTS:
        raise UsageError(
            "--arg does not apply to a model that is read as it was saved", "leave --arg out, or give a factory"
        )
    given = None if weights is None else read_weights(weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        built = _build(source, form, given, options)
    _check_shaped(built.module)
    frozen, told = frozen_parameters(built.module)
    network, notes = trained_form(built.module)
    _fetch(network)
    notes = tuple(dict.fromkeys((*built.notes, *notes, *([told] if told else []))))
    if given is not None and form != "hf" and options.partly:
        notes = (*notes, *fill_in_part(network, given))
    elif given is not None and form != "hf":
        notes = (*notes, *fill(network, given, CLASSES if form in WITH_ARGUMENTS[1:] else CLASSES_OF_A_FACTORY))
    elif not built.weighted:
        notes = (*notes, "The weights are random: give --weights to audit a trained model.")
    return Opened(built, network, notes, frozen)


def _fetch(network: nn.Module) -> None:
    """Bring a network that its factory put on an accelerator, as DataParallel does, to where models are loaded."""
    places = {tensor.device.type for tensor in (*network.parameters(), *network.buffers())}
    if places - {"cpu", "meta"}:
        network.to("cpu")


def _build(source: str, form: str, given: Weights | None, options: LoadOptions) -> Built:
    arguments = dict(options.arg)
    if form == "torchvision":
        return from_torchvision(source.removeprefix("torchvision:"), options.classes, arguments)
    if form == "timm":
        return from_timm(source.removeprefix("timm:"), options.classes, arguments)
    if form == "pretrained":
        return from_pretrained(source.removeprefix("pretrained:"), options.classes, arguments)
    if form == "hf":
        return from_huggingface(Path(source.removeprefix("hf:")), options.classes, given)
    if form in ARCHIVES:
        return ARCHIVES[form](Path(source))
    return from_factory(source, arguments)


def load_pytorch(source: str, form: str, weights: Path | None, options: LoadOptions) -> Target:
    """Load a module from a factory, a library of architectures, or an archive that the user trusts.

    Raises
    ------
    UsageError, NotAuditable
        See `loading.load`.
    """
    opened = open_pytorch(source, form, weights, options)
    built, network = opened.built, opened.network
    check_parameters(network)
    check_forward(network, printable(source))
    shape, spec = input_of(built, source, options)
    changed = _changed(network, spec, form, options)
    swap_modules(network)
    model = VideoModel(network, spec, pool=options.temporal_pool, output=options.model_output)
    model, ranged = with_range(model, options, stated=bool(built.mean or built.std or built.value_range))
    assumed, spec = assumed_range(spec, model.spec), model.spec
    clip = sample_clips(spec, 1, options.seed)
    try:
        classes = count_classes(model, clip, options.classes or built.classes)
    except UsageError as error:
        hint = ""
        if "fails on a clip" in error.cause:
            hint = precision_hint(error.cause, opened.notes)
            hint = hint or _other_layout(model, shape, options.seed) or wrapper_hint(model, options.seed)
        raise UsageError(error.cause, hint or error.remedy) from error
    batch, told = _settled_batch(model, built, options.seed)
    model, seen = _with_substitutes(model, clip)
    norms = sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    return described(
        model, spec, classes, options, built.name, form, digest(network.state_dict()),
        class_counts(network) if built.operators is None else built.operators,
        Fidelity(
            parity_max_error=None,
            gradient_check=None,
            double_backward=False,
            batchnorm=built.batchnorm or ("kept" if norms else "none"),
            batch=batch,
            notes=(*opened.notes, changed.told, *ranged, *told) if changed else (*opened.notes, *ranged, *told),
            origin=ORIGINS.get(form, "PyTorch module, run as it is"),
            batchnorm_evidence=built.evidence or f"{norms or 'no'} BatchNorm module{'' if norms == 1 else 's'}",
            unaccounted=Unaccounted(assumed=assumed),
        ),
        (*opened.frozen, *(changed.frozen if changed else ())), seen,
    )  # fmt: skip


def _changed(network: nn.Module, spec: InputSpec, form: str, options: LoadOptions) -> Changed | None:
    """Change the network as the options ask, and return what was done; None where they ask for nothing."""
    if options.change is None:
        return None
    if form in ("exported", "torchscript"):
        raise UsageError("--change does not apply to a graph that was saved as it is", "give path/file.py:factory")
    x = VideoModel(network, spec).prepare(sample_clips(spec, 1, options.seed))
    return change_network(network, *options.change, x, options.seed)


def input_of(built: Built, source: str, options: LoadOptions) -> tuple[tuple[int, ...], InputSpec]:
    """Return the shape of one clip without batch as it was given or stated, and the input in full.

    Raises
    ------
    UsageError
        Nothing tells the shape, or what tells it contradicts itself.
    """
    shape, layout, origin = built.shape, built.layout, built.origin
    if options.input_shape is not None:
        shape, origin = options.input_shape, "given by the user"
        # A source of clips says nothing about the order of a shape that has another number of axes.
        layout = layout if layout is None or len(without_batch(shape, None)) - len(AXES[layout]) in (0, 1) else None
    if shape is None:
        raise unknown_size(built.module, printable(source))
    shape = without_batch(shape, None)
    if len(shape) < FRAME:
        raise of_flat_inputs(built.module, printable(source), shape)
    layout = options.layout or layout or layout_of(built.module, shape)
    spec = options.spec(
        shape,
        origin,
        layout=layout,
        mean=built.mean,
        std=built.std,
        value_range=built.value_range,
    )
    return shape, spec


def _with_substitutes(model: VideoModel, clip: Tensor) -> tuple[VideoModel, list[Seen]]:
    """Return the model with replacements for functions without second derivative, where it calls any.

    And what a pass over the clip did, where that stands for the model that is returned: of large networks it takes
    seconds.

    Raises
    ------
    NotAuditable
        The network runs without gradients only.
    """
    small = smaller_clip(model, clip)
    try:
        seen = seen_once(model, small)
    except Exception as error:
        raise NotAuditable(
            f"the model runs, but not where gradients are computed: {in_a_line(error)}",
            "let forward work as it does in training: no numpy() of what has a gradient",
        ) from error
    if not seen[1].operators.isdisjoint(NEEDED_FOR):
        return model.over(model.network, True), []
    return model.over(model.network, False), [seen] if small is clip else []


def _settled_batch(model: VideoModel, built: Built, seed: int) -> tuple[str, tuple[str, ...]]:
    """Return how batches run; a traced archive may hold the batch of its example, and then runs clip by clip."""
    network = model.network
    if not isinstance(network, ScriptedNetwork):
        return built.batch, ()
    clips = sample_clips(model.spec, 2, seed)
    with torch.no_grad():
        apart = torch.cat([model(clip[None]) for clip in clips])
        try:
            together = model(clips)
        except RuntimeError:  # torch.jit.Error included
            together = None
    if together is not None and together.shape == apart.shape and difference(together, apart) <= TOLERANCE:
        return built.batch, ()
    rows = model.spec.frames if model.spec.layout in ("NCHW", "NHWC") else 1
    network.parts = rows
    return "frozen at 1", (
        "The archive works for one clip only: batches run clip by clip, which is exact with running statistics; with "
        "batch statistics every clip has its own.",
    )


def _other_layout(model: VideoModel, shape: tuple[int, ...], seed: int) -> str:
    """Return what to give where the network runs on the same clip in another axis order; empty if it does not."""
    specs = [model.spec]
    with suppress(UsageError):  # raised where the shape alone does not tell its order
        specs.insert(0, _respelled(model.spec, shape))
    for spec in specs:
        for layout in AXES:
            other = replace(spec, layout=layout)
            if len(AXES[layout]) == 3 and spec.frames > 1:
                shown = (spec.frames, *model_shape(other))
            else:
                shown = model_shape(other)
            try:
                count_classes(VideoModel(model.network, other, model.substitutes), sample_clips(other, 1, seed), None)
            except AuditError:
                continue
            extents = ",".join(map(str, shown))
            return f"the model runs with --layout {layout} --input-shape {extents}: check the axis order"
    return ""


def _respelled(spec: InputSpec, shape: tuple[int, ...]) -> InputSpec:
    found = input_spec(shape, layout=deduced_layout(shape), mean=None, std=None, value_range=None, origin=spec.origin)
    return replace(found, mean=(0.0,), std=(1.0,))


def _check_shaped(network: nn.Module) -> None:
    for name, value in network.named_parameters():
        if isinstance(value, nn.parameter.UninitializedParameter):
            raise UsageError(
                f"parameter '{printable(name)}' has no shape yet",
                "run the network once in the factory, on a clip of zeros: a lazy module takes its shape from it",
            )


def check_parameters(network: nn.Module) -> None:
    """Refuse a network without float parameters, or with some that are not finite."""
    check_not_quantised(network)
    parameters = dict(network.named_parameters())
    if not any(value.is_floating_point() for value in parameters.values()):
        raise NotAuditable("the model has no trainable float parameter", "return the model itself from the factory")
    for name, value in parameters.items():
        if value.is_meta:
            raise UsageError(
                f"parameter '{printable(name)}' is on the meta device and holds no numbers",
                "build the network on the CPU in the factory",
            )
        if not bool(torch.isfinite(value).all()):
            raise NotAuditable(f"tensor '{printable(name)}' holds NaN or infinity", "give a checkpoint that is finite")
