"""A model that is PyTorch already becomes a Target."""

from pathlib import Path

import torch
from torch import nn

from auditor.errors import NotAuditable, UsageError
from auditor.model import pytorch
from auditor.model.clip_input import without_batch
from auditor.model.describe import count_classes, described, sample_clips
from auditor.model.options import LoadOptions
from auditor.model.reading import observe
from auditor.model.twice import NEEDED_FOR, swap_modules
from auditor.model.video import VideoModel
from auditor.model.weights import fill, read_weights
from auditor.records import Fidelity, Target
from auditor.text import printable


def load_pytorch(source: str, form: str, weights: Path | None, options: LoadOptions) -> Target:
    """Load a module from a factory or a library of architectures.

    Raises
    ------
    UsageError, NotAuditable
        See `loading.load`.
    """
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
    clip = sample_clips(spec, 1, options.seed)
    classes = count_classes(model, clip, options.classes)
    substitutes = not observe(model, clip).operators.isdisjoint(NEEDED_FOR)
    model = VideoModel(network, spec, substitutes)
    norms = sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    return described(
        model, spec, classes, options, built.name, form, pytorch.digest(network.state_dict()),
        pytorch.class_counts(network),
        Fidelity(
            parity_max_error=None,
            gradient_check=None,
            double_backward=False,
            batchnorm="kept" if norms else "none",
            batch="dynamic",
            notes=tuple(notes),
            origin="PyTorch module, run as it is",
            batchnorm_evidence=f"{norms or 'no'} BatchNorm module{'' if norms == 1 else 's'}",
        ),
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
