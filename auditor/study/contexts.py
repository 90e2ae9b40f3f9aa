"""The networks of a study, loaded once a process: fresh or trained weights, one set a seed."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from auditor.errors import AuditError, UsageError
from auditor.federated import assign_labels
from auditor.journal.folder import Journal
from auditor.model import VideoModel
from auditor.model.output import select
from auditor.model.sandbox.user_file import executed
from auditor.model.two_part import TwoPart, joined
from auditor.pipeline.context import Context
from auditor.pipeline.scan import load_target
from auditor.pipeline.single_attack.named import clip_named
from auditor.pipeline.training import loss_of, trained
from auditor.probe import Galleries, gallery, shipped_names
from auditor.probe.fit import resize
from auditor.records import Clips, InputSpec, Label, Probe, Target, View
from auditor.study.features import clip_features
from auditor.study.plan import StudyModel
from auditor.text import printable

# Loaded networks that one process keeps: units are ordered by network, so few are needed at a time.
_KEPT = 3
Program = Callable[..., None]


class Contexts:
    """Loads, trains and keeps what the units of one process need."""

    def __init__(self, device: torch.device, journal: Journal, clips: Sequence[str]) -> None:
        self._device, self._journal, self._clips = device, journal, tuple(clips)
        self._contexts: OrderedDict[tuple[str, str, int], Context] = OrderedDict()
        self._features: dict[tuple[str, int], Tensor] = {}
        self._sized: dict[str, tuple[dict[str, Probe], Galleries]] = {}

    def context(self, model: StudyModel, training: str, seed: int) -> Context:
        """Return the set-up of one network, with trained weights where `training` is the key of some."""
        key = (model.name, training, seed)
        if key not in self._contexts:
            while len(self._contexts) >= _KEPT:
                self._contexts.popitem(last=False)
            self._contexts[key] = self._made(model, training, seed)
        self._contexts.move_to_end(key)
        return self._contexts[key]

    def probe(self, clip: str, spec: InputSpec) -> Probe:
        """Return one clip of the study at a network's size."""
        return self._at(spec)[0][clip]

    def gallery(self, probe: Probe, spec: InputSpec) -> Clips:
        """Return the candidates to hide a clip among; real clips of one size share them."""
        return self._at(spec)[1][probe.name]

    def gallery_features(self, model: StudyModel, gallery: Clips, view: View) -> Tensor:
        """Return the features (clip, frame, feature) of a gallery by a frozen extractor, made once for all heads."""
        key = (repr((model.options.extractor, model.options.extractor_weights, view.target.input)), id(gallery))
        if key not in self._features:
            size = (view.target.input.height, view.target.input.width)
            self._features[key] = clip_features(view, _sized(gallery, size))
        return self._features[key]

    def _at(self, spec: InputSpec) -> tuple[dict[str, Probe], Galleries]:
        key = repr(spec)
        if key not in self._sized:
            probes = {clip: clip_named(clip, spec, 0) for clip in self._clips}
            self._sized[key] = (probes, Galleries(spec, probes.values()))
        return self._sized[key]

    def _made(self, model: StudyModel, training: str, seed: int) -> Context:
        options = replace(model.options, seed=seed)
        target = load_target(options, self._device)
        if training:
            _take(target, self._journal.tensors(training))
        return trained(target, options, loss_of(options.loss, target))


def train(model: StudyModel, seed: int, program: Program, device: torch.device) -> tuple[dict[str, Tensor], float]:
    """Train the part of a fresh network that clients train, on windows of shipped clips; return it and its accuracy.

    The program is called with (forward, parameters, inputs, labels, seed) and changes the parameters in place. Of a
    two-part model the inputs are features, which are computed once.

    Raises
    ------
    UsageError
        The program fails or leaves weights that are no numbers.
    """
    options = replace(model.options, seed=seed)
    target = load_target(options, device)
    context = trained(target, options, loss_of(options.loss, target))
    clips, scenes = training_clips(target.input)
    labels = context.client.targets(tuple(s % target.classes for s in scenes)).to(device)
    forward, inputs = _forward(target, clips.to(device))
    parameters = {name: target.parameters[name] for name in context.protocol.sent}
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    torch.manual_seed(seed)
    try:
        program(forward, parameters, inputs, labels, seed)
    except AuditError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise UsageError(
            f"the training program fails on {printable(model.name)}: {type(error).__name__}: {printable(first)}",
            "correct it: it is called with (forward, parameters, inputs, labels, seed)",
        ) from error
    if not all(bool(torch.isfinite(p).all()) for p in parameters.values()):
        raise UsageError(
            f"training {printable(model.name)} left weights that hold NaN or infinity", "use a smaller step"
        )
    with torch.no_grad():
        right = float((forward(inputs).argmax(-1) == labels).float().mean())
    return {name: p.detach().clone() for name, p in parameters.items()}, right


def training_clips(spec: InputSpec) -> tuple[Clips, tuple[int, ...]]:
    """Return windows and crops of all shipped clips, none of them a probe itself, and the number of their scene."""
    made = gallery(spec)
    names = shipped_names()
    return _sized(made.clips, (spec.height, spec.width)), tuple(names.index(n.partition("/")[0]) for n in made.names)


def _sized(clips: Clips, size: tuple[int, int]) -> Clips:
    """Enlarge clips that were made smaller to fit into memory."""
    if tuple(clips.shape[-2:]) == size:
        return clips
    return resize(clips.flatten(0, 1), *size).reshape(*clips.shape[:3], *size)


def label_for(probe: Probe, classes: int, context: Context) -> Label:
    """Return what a clip is trained as: its scene, where it is a shipped one, else drawn from its name."""
    names = shipped_names()
    if probe.name in names and context.client.loss.kind == "class":
        return names.index(probe.name) % classes
    (drawn,) = assign_labels([probe.name], classes, kind=context.client.loss.kind)
    return drawn


def program_of(source: str) -> Program:
    """Return a training program from `path/file.py:function`. The file is executed.

    Raises
    ------
    UsageError
        It is missing, raises, or is no function.
    """
    text, _, name = source.rpartition(":")
    path = Path(text)
    remedy = "give [training] program = 'file.py:function'"
    if not path.is_file():
        raise UsageError(f"there is no training program {printable(text)}", remedy)
    function = getattr(executed(path, remedy), name, None)
    if not callable(function):
        raise UsageError(f"{printable(path.name)} defines no function '{printable(name)}'", remedy)
    return cast(Program, function)


def _forward(target: Target, clips: Clips) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Return logits as a function of what is trained on, and that: clips, or the features of a frozen extractor."""
    model = target.model
    assert isinstance(model, VideoModel)
    network = model.network
    if not isinstance(network, TwoPart):
        return model, clips
    with torch.no_grad():
        rows = [select(network.extractor(model.prepare(clip[None])), None) for clip in clips]
    inputs = torch.stack(rows)

    def forward(features: Tensor) -> Tensor:
        entering = joined(features.flatten(0, 1), network.join, network.rows)
        return model.logits_of(network.head(entering), len(features))

    return forward, inputs


def _take(target: Target, weights: Mapping[str, Tensor]) -> None:
    parameters: dict[str, Any] = target.parameters
    with torch.no_grad():
        for name, value in weights.items():
            parameters[name].copy_(value)
