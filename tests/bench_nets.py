"""Small video nets with known properties, and the attacker's view of a client that trains one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from auditor.federated import LocalClient, observe
from auditor.model.forward_pass import observe as read
from auditor.model.layers import find_layers
from auditor.model.video import VideoModel
from auditor.records import Clip, Clips, FederatedProtocol, Fidelity, InputSpec, Knowledge, Target, View

SPEC = InputSpec(frames=4, channels=3, height=16, width=16, layout="NCTHW")
CLASSES = 10


def seeded(make, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().eval()


def flat(act=nn.GELU) -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(3, 12, 3, padding=1, stride=(1, 2, 2)),
        act(),
        nn.Conv3d(12, 24, 3, padding=1, stride=(2, 1, 1)),
        act(),
        nn.Flatten(),
        nn.Linear(24 * 2 * 8 * 8, CLASSES),
    )


def pooled() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(3, 12, 3, padding=1, stride=(1, 2, 2)),
        nn.BatchNorm3d(12),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(12, CLASSES),
    )


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(4 * 3 * 16 * 16, 32), nn.ReLU(), nn.Linear(32, CLASSES))


class Transformer(nn.Module):
    """Tubelets, position embedding, one attention block, mean pool; variants by flags."""

    def __init__(self, width=96, token=False, linear=False, learned=True, norm=False, depth_first=False) -> None:
        super().__init__()
        self.linear = linear
        self.embed = nn.Linear(3 * 2 * 4 * 4, width) if linear else nn.Conv3d(3, width, (2, 4, 4), (2, 4, 4))
        tokens = 2 * 4 * 4 + token
        position = 0.1 * torch.randn(1, tokens, width)
        if learned:
            self.position = nn.Parameter(position)
        else:
            self.register_buffer("position", position)
        self.token = nn.Parameter(0.1 * torch.randn(1, 1, width)) if token else None
        self.between = nn.LayerNorm(width) if norm else nn.Identity()
        self.block = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        if self.linear:
            b = len(x)
            x = x.reshape(b, 3, 2, 2, 4, 4, 4, 4).permute(0, 2, 4, 6, 3, 5, 7, 1).reshape(b, 32, 96)
            x = self.embed(x)
        else:
            x = self.embed(x).flatten(2).transpose(1, 2)
        x = self.between(x)
        if self.token is not None:
            x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1)
        return self.head(self.block(x + self.position).mean(dim=1))


def target_of(net: nn.Module, spec: InputSpec = SPEC, classes: int = CLASSES) -> Target:
    model = VideoModel(net, spec)
    seen = read(model, torch.rand(1, *spec.clip_shape)).readings
    return Target(
        name="toy",
        source="toy",
        format="pytorch",
        sha256="0" * 64,
        model=model,
        input=spec,
        classes=classes,
        layers=find_layers(net, dict(model.named_parameters()), seen),
        operators={},
        fidelity=Fidelity(
            parity_max_error=None, gradient_check=0.0, double_backward=True, batchnorm="none", batch="dynamic"
        ),
    )


def clip(seed: int = 0, spec: InputSpec = SPEC) -> Clip:
    """A smooth clip with structure, in [0, 1]."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 3, 5, 5, generator=g)
    fine = nn.functional.interpolate(coarse, (spec.frames, spec.height, spec.width), mode="trilinear")
    return fine[0].transpose(0, 1).contiguous()


def view_of(
    net: nn.Module,
    clips: Clips,
    labels: Sequence[int],
    *,
    sent: Sequence[str] | None = None,
    known: bool = True,
    reference: Clip | None = None,
    spec: InputSpec = SPEC,
    classes: int = CLASSES,
) -> View:
    target = target_of(net, spec, classes)
    names = tuple(sent) if sent is not None else tuple(target.parameters)
    client = LocalClient(target.model, FederatedProtocol(batch=len(clips), sent=names))
    update = observe(client, clips, torch.tensor(labels))
    knowledge = Knowledge(
        clip_shape=spec.clip_shape,
        batch=len(clips),
        classes=classes,
        labels=tuple(labels) if known else None,
        reference=reference,
    )
    return View(target=target, client=client, update=update, knowledge=knowledge)


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10((a - b).square().mean()))
