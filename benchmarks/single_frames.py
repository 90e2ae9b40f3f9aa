"""Single frames, several to a batch, against a residual net: the setting in which image attacks report their figures.

Usage: python benchmarks/single_frames.py [--width 64] [--blocks 2] [--batch 4] [--steps 4000] [--labels equal]
       [--attacks NAME ...] [--sets N] [--seconds S] [--device cuda] [--json]

Held against 22.03 dB (and 14.03 dB for equal labels): Inverting Gradients on CIFAR-10, ResNet-18, batch of 4 distinct
labels, as reported in arXiv 2503.11514. Frames of the shipped clips at 32x32 stand in for CIFAR's images, of as many
scenes as there are; weights are fresh, BatchNorm in eval mode, labels known. With the defaults the net is that
ResNet-18 (3x3 stem, no pooling: 11.2 M parameters); a smaller --width or --blocks scales it down. Clips of a batch are
paired with the truths one to one before they are scored, and every frame is scored on its own.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from peers import CLASSES  # noqa: E402

from auditor.attack import BY_NAME  # noqa: E402
from auditor.federated import LocalClient, observe  # noqa: E402
from auditor.model.forward_pass import observe as read  # noqa: E402
from auditor.model.layers import find_layers  # noqa: E402
from auditor.model.video import VideoModel  # noqa: E402
from auditor.probe import shipped_probes  # noqa: E402
from auditor.records import (  # noqa: E402
    Budget,
    Clips,
    FederatedProtocol,
    Fidelity,
    InputSpec,
    Knowledge,
    Reconstruction,
    Target,
    View,
)
from auditor.score import pair, psnr, ssim_frames  # noqa: E402

SPEC = InputSpec(frames=1, channels=3, height=32, width=32, layout="NCHW")
REPORTED = {"distinct": 22.03, "equal": 14.03}
ATTACKS = ("inverting-gradients", "gradient-matching", "gradient-matching-modes")


class Block(nn.Module):
    """Two convolutions with BatchNorm and a shortcut (He et al. 2016)."""

    def __init__(self, width: int, wider: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(width, wider, 3, stride, 1, bias=False), nn.BatchNorm2d(wider)
        self.conv2, self.norm2 = nn.Conv2d(wider, wider, 3, 1, 1, bias=False), nn.BatchNorm2d(wider)
        same = stride == 1 and width == wider
        short = nn.Sequential(nn.Conv2d(width, wider, 1, stride, bias=False), nn.BatchNorm2d(wider))
        self.short = nn.Identity() if same else short

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))) + self.short(x))


def resnet(width: int, blocks: int) -> nn.Module:
    """Four stages of `blocks`, from `width` to 8 `width` channels: ResNet-18 with 64 and 2."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    before = width
    for stage in range(4):
        wider = width * 2**stage
        for block in range(blocks):
            layers.append(Block(before, wider, 2 if stage > 0 and block == 0 else 1))
            before = wider
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, CLASSES)).eval()


def frames(batch: int, which: int) -> Clips:
    """Return `batch` single frames of the shipped clips: a clip each as far as they go, then later frames."""
    probes = shipped_probes(InputSpec(frames=8, channels=3, height=32, width=32, layout="NCTHW"))
    picked = [(which * batch + k) for k in range(batch)]
    return torch.stack([probes[k % len(probes)].clip[(3 * (k // len(probes))) % 8][None] for k in picked])


def view_of(net: nn.Module, clips: Clips, labels: tuple[int, ...], device: torch.device) -> View:
    """Return what an attacker sees who knows the labels."""
    model = VideoModel(net.to(device), SPEC)
    seen = read(model, torch.rand(1, *SPEC.clip_shape, device=device)).readings
    fidelity = Fidelity(
        parity_max_error=None, gradient_check=None, double_backward=True, batchnorm="kept", batch="dynamic"
    )
    target = Target(
        name="benchmark", source="benchmark", format="pytorch", sha256="", model=model, input=SPEC, classes=CLASSES,
        layers=find_layers(net, dict(model.named_parameters()), seen), operators={}, fidelity=fidelity,
    )  # fmt: skip
    client = LocalClient(model, FederatedProtocol(batch=len(clips), sent=tuple(target.parameters)))
    knows = Knowledge(clip_shape=SPEC.clip_shape, batch=len(clips), classes=CLASSES, labels=labels)
    update = observe(client, clips.to(device), torch.tensor(labels, device=device))
    return View(target=target, client=client, update=update, knowledge=knows)


def case(given: argparse.Namespace, attack: str, which: int) -> dict[str, Any]:
    """Run one attack on one batch."""
    device = torch.device(given.device)
    clips = frames(given.batch, which)
    labels = tuple(range(given.batch)) if given.labels == "distinct" else (3,) * given.batch
    view = view_of(resnet(given.width, given.blocks), clips, labels, device)
    begun, cpu = time.monotonic(), time.process_time()
    made = BY_NAME[attack].invert(view, Budget(seconds=given.seconds, steps=given.steps), seed=which)
    if not isinstance(made, Reconstruction):
        sys.exit(f"{attack}: {made.reason}")
    found = made.clips.cpu()[list(pair(clips, made.clips.cpu()))]
    each = [float(psnr(truth, one)) for truth, one in zip(clips, found, strict=True)]
    grey = [float(psnr(truth, torch.full_like(truth, 0.5))) for truth in clips]
    similar = [float(ssim_frames(truth, one).mean()) for truth, one in zip(clips, found, strict=True)]
    return {
        "attack": attack, "set": which, "psnr": statistics.mean(each), "each": each, "grey": statistics.mean(grey),
        "ssim": statistics.mean(similar), "objective": made.objective, "steps": made.steps,
        "seconds": time.monotonic() - begun, "cpu_seconds": time.process_time() - cpu, "outcome": made.outcome.name,
    }  # fmt: skip


def main() -> None:
    """Run every attack on every set of frames."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=64, help="channels of the first stage (ResNet-18: 64)")
    parser.add_argument("--blocks", type=int, default=2, help="of each stage (ResNet-18: 2)")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--labels", choices=["distinct", "equal"], default="distinct")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seconds", type=float, default=86400.0, help="most for each attack on each set")
    parser.add_argument("--sets", type=int, default=1, help="batches of different frames")
    parser.add_argument("--attacks", nargs="+", default=list(ATTACKS), choices=sorted(BY_NAME), metavar="NAME")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true", help="print JSON; the table goes to standard error")
    given = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    table = sys.stderr if given.json else sys.stdout
    print("| attack | set | PSNR (each) | SSIM | grey | steps | CPU |\n|---|---|---|---|---|---|---|", file=table)
    cases = []
    for attack in given.attacks:
        for which in range(given.sets):
            one = case(given, attack, which)
            cases.append(one)
            each = ", ".join(f"{p:.1f}" for p in one["each"])
            print(
                f"| {attack} | {which} | {one['psnr']:.2f} dB ({each}) | {one['ssim']:.3f} | {one['grey']:.1f} dB | "
                f"{one['steps']} | {one['cpu_seconds']:.0f} s |",
                file=table, flush=True,
            )  # fmt: skip
    print(f"\nreported for ResNet-18, batch of 4, {given.labels} labels: {REPORTED[given.labels]} dB", file=table)
    if given.json:
        print(json.dumps({"width": given.width, "blocks": given.blocks, "batch": given.batch, "cases": cases}))


if __name__ == "__main__":
    main()
