"""Nets of the catalogue of architectures with their weights, as targets of an audit, and clips that suit them."""

from dataclasses import replace

import torch
from architecture_nets import CLASSES, CLIP, NETS
from deep_suite import DEEP_SUITE, with_statistics
from torch import nn
from torch.nn import functional as F

from auditor.attack import PRESETS, Preset
from auditor.options import ScanOptions
from auditor.pipeline.scan import choose_device, load_target
from auditor.probe import moving_texture, shipped_probes
from auditor.records import InputSpec, Target

SPEC = InputSpec(frames=CLIP[1], channels=CLIP[0], height=CLIP[2], width=CLIP[3], layout="NCTHW")
# Steps of Adam, after which every net tells its training clips apart.
TRAINING, RATE = 60, 2e-3
WEIGHTS, BATCHES = ("fresh", "trained"), (1, 2, 4)


def net(name: str, weights: str = "fresh") -> nn.Module:
    """Return a net in eval mode: of the catalogue, with weights that are fresh or trained, or of published size."""
    if name in DEEP_SUITE:
        made = DEEP_SUITE[name]()
        made.input_shape, made.layout = (CLIP[0], CLIP[1], 32, 32), "NCTHW"
        return made
    torch.manual_seed(0)
    made = next(family[name] for family in NETS.values() if name in family)()
    made.input_shape, made.layout = CLIP, "NCTHW"
    made = with_statistics(made, SPEC)
    return trained(made) if weights == "trained" else made


def trained(made: nn.Module) -> nn.Module:
    """Train on shipped clips that no audit attacks and on textures, each a class of its own."""
    held = {p.name for p in shipped_probes(SPEC, PRESETS["fast"].probes)}
    others = [p.clip for p in shipped_probes(SPEC) if p.name not in held][: CLASSES // 2]
    clips = [*others, *(moving_texture(SPEC, 100 + k).clip for k in range(CLASSES - len(others)))]
    x, y = torch.stack(clips), torch.arange(len(clips))
    optimiser = torch.optim.Adam(made.parameters(), lr=RATE)
    made.eval()
    for _ in range(TRAINING):
        optimiser.zero_grad()
        F.cross_entropy(made(x.transpose(1, 2)), y).backward()
        optimiser.step()
    return made


def options_of(name: str, weights: str, **more: object) -> ScanOptions:
    """Return the options of an audit of a net; `more` are others of `ScanOptions`."""
    source = (("name", name), ("weights", weights))
    chosen = {"device": "cpu", "what_if": False, "malicious_server": False, "layers": 0, **more}
    return ScanOptions(model=f"{__file__}:net", arg=source, **chosen)


def target_of(options: ScanOptions) -> Target:
    """Return the net that the options name."""
    return load_target(options, choose_device("cpu"))


def blind(preset: Preset) -> Preset:
    """Return a preset on two clips, without attacks that hold frames of the scene."""
    return replace(preset, probes=2, attacks=tuple(a for a in preset.attacks if not a.frames_of_scene))
