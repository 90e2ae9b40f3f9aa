"""From what the user typed to a Target: the model loaded, described, and checked against independent witnesses."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from onnx import ModelProto
from torch import Tensor, nn

from auditor.errors import AuditError, NotAuditable, UsageError
from auditor.model import pytorch
from auditor.model.clip_input import AXES, deduced_layout, input_spec, model_shape, without_batch
from auditor.model.fidelity import gradient_error, second_derivative
from auditor.model.graph import Graph, read_graph
from auditor.model.interpreter import (
    WAYS_FORWARD,
    NodeError,
    OnnxModule,
    check_supported,
    in_parts,
    operator_counts,
)
from auditor.model.layers import find_layers
from auditor.model.onnx_file import PICKLE, ZIP, OnnxFile, read_onnx
from auditor.model.parity import HALF_TOLERANCE, TOLERANCE, NoRuntimeError, difference, runtime
from auditor.model.reading import observe
from auditor.model.trainable import INVENTED, Roles, roles
from auditor.model.twice import NEEDED_FOR, swap_modules
from auditor.model.video import VideoModel
from auditor.model.weights import fill, is_safetensors, read_weights
from auditor.records import Fidelity, InputSpec, Layout, Target
from auditor.text import printable

CPU = torch.device("cpu")
FACTORY = "give the model as path/file.py:factory, with its state dict in --weights"
FAITHFUL = "torch.onnx.export(model, (clip,), 'model.onnx', dynamo=True, optimize=False)"
FAITHFUL_LEGACY = (
    "torch.onnx.export(model, (clip,), 'model.onnx', dynamo=False, training=torch.onnx.TrainingMode.TRAINING, "
    "do_constant_folding=False)"
)
FOLDING_RULE = "FuseBatchNorm"
WRONG_GRADIENT = 0.05
ROUGH_GRADIENT = 1e-3


def load(
    source: str,
    *,
    weights: Path | None = None,
    input_shape: tuple[int, ...] | None = None,
    layout: Layout | None = None,
    classes: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    value_range: tuple[float, float] | None = None,
    device: torch.device = CPU,
    seed: int = 0,
) -> Target:
    """Load a model for an audit.

    Parameters
    ----------
    source
        An ONNX file (told by its content), `path/file.py:factory` (executed), or `torchvision:NAME`.
    weights
        Safetensors or a state dict, for PyTorch models; without it they keep what the factory gives them.
    input_shape
        One clip in the model's own axis order, with or without the batch.
    layout, mean, std, value_range
        How pixels enter the model, where it cannot be deduced.
    classes
        Number of classes; needed only for `torchvision:` models with another head.
    seed
        Of the random weights of `torchvision:` models and factories, and of the checks.

    Raises
    ------
    UsageError
        The source or an option is wrong.
    NotAuditable
        The model is unreadable, unsupported, or holds nothing that clients train.
    """
    begun = time.monotonic()
    options = _Options(input_shape, layout, mean, std, value_range, classes, device, seed)
    if source.startswith("torchvision:"):
        target = _load_pytorch(source, "torchvision", weights, options)
    elif _names_a_factory(source):
        target = _load_pytorch(source, "pytorch", weights, options)
    else:
        target = _load_file(Path(source), weights, options)
    return replace(target, source=printable(source, 500), seconds=time.monotonic() - begun)


class _Options:
    def __init__(
        self,
        input_shape: tuple[int, ...] | None,
        layout: Layout | None,
        mean: tuple[float, ...] | None,
        std: tuple[float, ...] | None,
        value_range: tuple[float, float] | None,
        classes: int | None,
        device: torch.device,
        seed: int,
    ) -> None:
        self.input_shape, self.layout, self.mean, self.std = input_shape, layout, mean, std
        self.value_range, self.classes, self.device, self.seed = value_range, classes, device, seed

    def spec(
        self,
        shape: tuple[int, ...],
        origin: str,
        *,
        layout: Layout | None,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> InputSpec:
        return input_spec(
            shape,
            layout=layout,
            mean=self.mean if self.mean is not None else mean,
            std=self.std if self.std is not None else std,
            value_range=self.value_range,
            origin=origin,
        )


def _names_a_factory(source: str) -> bool:
    path, colon, name = source.rpartition(":")
    return bool(colon) and not Path(source).exists() and (path.endswith(".py") or name.isidentifier()) and len(path) > 1


def _load_file(path: Path, weights: Path | None, options: _Options) -> Target:
    shown = printable(str(path), 300)
    if not path.exists():
        raise UsageError(f"there is no file {shown}", "give an ONNX file, path/file.py:factory, or torchvision:NAME")
    if path.is_dir():
        raise UsageError(f"{shown} is a folder", "give the ONNX file inside it")
    if not path.is_file():
        raise UsageError(f"{shown} is not a regular file", "give an ONNX file")
    if path.suffix == ".py":
        raise UsageError(f"{shown} is a Python file", f"name the function that returns the model: {shown}:factory")
    with path.open("rb") as stream:
        head = stream.read(9)
    if head.startswith((ZIP, PICKLE)):
        raise NotAuditable(
            f"{shown} is a PyTorch archive, which can run code when loaded or holds no architecture", FACTORY
        )
    if is_safetensors(head, path.stat().st_size):
        raise NotAuditable(f"{shown} holds weights without an architecture", FACTORY)
    if weights is not None:
        raise UsageError("--weights does not apply to an ONNX file, which carries its own", "leave --weights out")
    return _load_onnx(path, options)


# ----------------------------------------------------------------------------------------------------------- ONNX


def _load_onnx(path: Path, options: _Options) -> Target:
    file, graph, found = _understood(path)
    shape, batch, layout = _declared_input(file.model, options)
    spec = options.spec(shape, "read from the model file", layout=layout)
    module = OnnxModule(graph, found, batch).eval()
    model = VideoModel(module, spec)
    clips = _sample(spec, 2, options.seed)
    if batch is not None and batch > 1:
        module.clip_by_clip = not _runs(model, clips[:1])
    classes = _classes(model, clips[:1], options.classes)
    parity, batching, notes = _compare(file.model, model, clips, bool(file.precisions))
    if file.precisions:
        notes.insert(0, f"Weights in {', '.join(file.precisions)} were converted to float32.")
    if graph.nodes[-1].operator == "Softmax":
        notes.append("The output is a softmax already: gradients assume that clients train on logits.")
    batchnorm, folding = _batchnorm(graph)
    notes += folding
    return _described(
        model, spec, classes, options, path.stem, "onnx", file.sha256, operator_counts(graph),
        parity=parity, batch=batching, batchnorm=batchnorm, notes=notes,
    )  # fmt: skip


def _understood(path: Path) -> tuple[OnnxFile, Graph, Roles]:
    try:
        file = read_onnx(path)
        graph = read_graph(file.model)
        _check_signature(file.model, graph)
        check_supported(graph)
        found = roles(graph)
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
    return file, graph, found


def _runs(model: VideoModel, clip: Tensor) -> bool:
    try:
        with torch.no_grad():
            model(clip)
    except (NodeError, RuntimeError):
        return False
    return True


def _check_signature(model: ModelProto, graph: Graph) -> None:
    if len(graph.inputs) != 1:
        names = ", ".join(printable(name, 40) for name in graph.inputs[:5])
        raise NotAuditable(
            f"the graph reads {len(graph.inputs)} inputs ({names})",
            "export a model that reads one clip and nothing else",
        )
    if len(graph.outputs) != 1:
        names = ", ".join(printable(name, 40) for name in graph.outputs[:5])
        raise NotAuditable(
            f"the graph has {len(graph.outputs)} outputs ({names})", "export a model that returns one tensor of logits"
        )


def _declared_input(model: ModelProto, options: "_Options") -> tuple[tuple[int, ...], int | None, Layout | None]:
    """Return one clip's shape without batch, the batch size that the file fixes (None if it is open), and the layout.

    A model of single frames takes a shape of several frames: then frames travel in its batch.
    """
    given, layout = options.input_shape, options.layout
    initializers = {tensor.name for tensor in model.graph.initializer}
    value = next(value for value in model.graph.input if value.name not in initializers)
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


def _compare(proto: ModelProto, model: VideoModel, clips: Tensor, narrow: bool) -> tuple[float | None, str, list[str]]:
    """Compare outputs with ONNX Runtime at batch 1 and 2, and settle how batches run: at once, released, or in parts.

    Returns
    -------
    parity, batch, notes
        As `records.Fidelity` holds them.
    """
    module = model.network
    assert isinstance(module, OnnxModule)
    fixed = module.traced_batch
    singles, both = [model.prepare(clip[None]) for clip in clips], model.prepare(clips)
    notes: list[str] = []
    try:
        run = runtime(proto)
        theirs = [in_parts(run, x, fixed or x.shape[0]) for x in singles]
    except NoRuntimeError as absent:
        notes.append(f"Outputs were not compared with ONNX Runtime: {absent.reason}.")
        theirs = []
    tolerance = HALF_TOLERANCE if narrow else TOLERANCE
    smallest, failure = float("inf"), ""
    size = fixed or singles[0].shape[0]
    ways = [
        (fixed, False, "unfrozen" if fixed else "dynamic"),
        (size, False, "unfrozen"),
        (size, True, f"frozen at {size}"),
    ]
    for traced, apart, word in ways if fixed is None else [ways[0], ways[2]]:
        if (traced, apart) != (module.traced_batch, module.clip_by_clip):
            module.traced_batch, module.clip_by_clip = traced, apart
            module.forget()
        try:
            with torch.no_grad():
                ours, together = [module(x) for x in singles], module(both)
        except (NodeError, RuntimeError) as error:
            failure = str(error)
            continue
        parity = max(map(difference, ours, theirs)) if theirs else 0.0
        smallest = min(smallest, parity)
        joint = difference(together, torch.cat(ours))
        if not max(parity, joint) <= tolerance:
            continue
        if apart:
            notes.append(
                f"The file works for a batch of {size} only: batches run in parts of {size}, which is exact with "
                "running statistics; with batch statistics every part has its own. Export with a dynamic batch to "
                "avoid that."
            )
        return (max(parity, joint) if theirs else None), word, notes
    if smallest == float("inf") and failure:
        raise NotAuditable(f"the graph does not run: {printable(failure, 300)}", WAYS_FORWARD)
    raise NotAuditable(
        f"the imported graph differs from ONNX Runtime by {smallest:.1e} of the largest logit "
        f"(at most {tolerance:.0e})",
        WAYS_FORWARD,
    )


def _batchnorm(graph: Graph) -> tuple[str, list[str]]:
    """Tell whether the file kept batch normalisation or merged it into other weights."""
    kept = any(node.operator == "BatchNormalization" for node in graph.walk())
    folded = any(FOLDING_RULE in text for node in graph.walk() for text in node.metadata.values())
    if not kept and not folded:
        convolutions = [
            node for node in graph.walk() if node.operator in ("Conv", "ConvTranspose") and len(node.inputs) > 2
        ]
        folded = any(
            INVENTED.match(name) for node in convolutions for name in node.inputs[1:3] if name in graph.constants
        )
    if not folded:
        return ("kept" if kept else "none"), []
    return "folded", [
        "Batch normalisation was merged into other weights at export: these are not the gradients that clients send, "
        f"and results are an upper bound. Export again with {FAITHFUL}, or {FAITHFUL_LEGACY}."
    ]


# -------------------------------------------------------------------------------------------------------- PyTorch


def _load_pytorch(source: str, form: str, weights: Path | None, options: _Options) -> Target:
    state = None if weights is None else read_weights(weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        if form == "torchvision":
            built = pytorch.from_torchvision(source.removeprefix("torchvision:"), options.classes)
        else:
            built = pytorch.from_factory(source)
    shape, origin = built.shape, built.origin
    if options.input_shape is not None:
        shape, origin = options.input_shape, "given by the user"
    if shape is None:
        raise UsageError(
            f"the size of a clip is unknown: {printable(source)} has no attribute input_shape",
            "give --input-shape, e.g. 3,16,112,112",
        )
    network, notes = pytorch.trained_form(built.module)
    if state is not None and weights is not None:
        fill(network, state, weights.name)
    elif form == "torchvision":
        notes = (*notes, "The weights are random: give --weights to audit a trained model.")
    _check_parameters(network)
    spec = options.spec(without_batch(shape, None), origin, layout=options.layout, mean=built.mean, std=built.std)
    swap_modules(network)
    model = VideoModel(network, spec)
    clip = _sample(spec, 1, options.seed)
    classes = _classes(model, clip, options.classes)
    substitutes = not observe(model, clip).operators.isdisjoint(NEEDED_FOR)
    model = VideoModel(network, spec, substitutes)
    norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    return _described(
        model, spec, classes, options, built.name, form, pytorch.digest(network.state_dict()),
        pytorch.class_counts(network),
        parity=None, batch="dynamic", batchnorm="kept" if norms else "none", notes=list(notes),
    )  # fmt: skip


def _check_parameters(network: nn.Module) -> None:
    parameters = dict(network.named_parameters())
    if not any(value.is_floating_point() for value in parameters.values()):
        raise NotAuditable("the model has no trainable float parameter", "return the model itself from the factory")
    for name, value in parameters.items():
        if isinstance(value, nn.parameter.UninitializedParameter):
            raise UsageError(
                f"parameter '{printable(name)}' has no shape yet", "run the lazy module once in the factory"
            )
        if not bool(torch.isfinite(value).all()):
            raise NotAuditable(f"tensor '{printable(name)}' holds NaN or infinity", "give a checkpoint that is finite")


# ----------------------------------------------------------------------------------------------------------- both


def _sample(spec: InputSpec, clips: int, seed: int) -> Tensor:
    """Return random clips whose pixels are whole steps of 1/255, so that integer inputs hold them too."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (clips, *spec.clip_shape), generator=generator).float() / 255


def _classes(model: VideoModel, clip: Tensor, wanted: int | None) -> int:
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
            logits = model(clip)
    except NodeError as error:
        raise NotAuditable(
            f"the graph does not run on a clip of shape {shape}: {error}", "check --input-shape, or " + WAYS_FORWARD
        ) from error
    except Exception as error:
        reason = printable(str(error).split("\n")[0] or type(error).__name__, 200)
        raise UsageError(
            f"the model fails on a clip of shape {shape}: {reason}", "check --input-shape and --layout"
        ) from error
    if not isinstance(logits, Tensor):
        kind = printable(type(logits).__name__)
        raise NotAuditable(f"the model returns {kind}, not a tensor of logits", "return only the logits from forward")
    if logits.dim() != 2 or logits.shape[0] != 1:
        raise NotAuditable(
            f"the model returns shape {tuple(logits.shape)} for one clip, not (1, classes)",
            "audit a classifier that returns logits",
        )
    if not logits.is_floating_point():
        raise NotAuditable("the model returns integers, not logits", "return the logits from forward")
    if not bool(torch.isfinite(logits).all()):
        raise NotAuditable(
            "the model returns NaN or infinity on a clip of noise", "check the weights and --mean, --std"
        )
    if wanted is not None and logits.shape[1] != wanted:
        raise UsageError(f"the model has {logits.shape[1]} classes, not {wanted}", "correct --classes or leave it out")
    return int(logits.shape[1])


def _described(
    model: VideoModel,
    spec: InputSpec,
    classes: int,
    options: _Options,
    name: str,
    form: str,
    sha256: str,
    operators: Mapping[str, int],
    *,
    parity: float | None,
    batch: str,
    batchnorm: str,
    notes: list[str],
) -> Target:
    clip = _sample(spec, 1, options.seed)
    seen = observe(model, clip)
    layers = find_layers(model.network, dict(model.named_parameters()), seen.readings)
    del seen
    gradient = gradient_error(model, clip, options.seed)
    if gradient is not None and gradient > WRONG_GRADIENT:
        raise NotAuditable(
            f"gradients disagree with finite differences by {gradient:.0%}", "report this model, and " + WAYS_FORWARD
        )
    if gradient is None:
        notes.append("Gradients were not compared with finite differences.")
    elif gradient > ROUGH_GRADIENT:
        notes.append(f"Gradients agree with finite differences to {gradient:.1e} only.")
    failure = second_derivative(model, clip)
    if failure:
        notes.append(
            f"Second derivatives are missing, so attacks that need them cannot run: {printable(failure, 200)}."
        )
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
        fidelity=Fidelity(
            parity_max_error=parity,
            gradient_check=gradient,
            double_backward=not failure,
            batchnorm=batchnorm,
            batch=batch,
            upper_bound=batchnorm == "folded",
            notes=tuple(notes),
        ),
    )
