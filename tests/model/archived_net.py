"""A small net with BatchNorm and dropout, and the ways torch has to archive one with its code."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

CLIP = (3, 4, 8, 8)
BATCH = 2


class Net(nn.Module):
    """`fold` above one fixes the batch; at zero every clip's logits depend on the first clip of its batch."""

    def __init__(self, fold: int = 1) -> None:
        super().__init__()
        self.fold = fold
        self.conv = nn.Conv3d(3, 4, 3)
        self.norm = nn.BatchNorm3d(4)
        self.gate = nn.Hardswish()
        self.drop = nn.Dropout(0.5)
        self.scale = nn.Parameter(torch.ones(4))
        self.head = nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = self.gate(self.norm(self.conv(x))).mean((2, 3, 4)) * self.scale
        if self.fold != 1:
            x = x.view(self.fold, 4) if self.fold > 1 else x + x[:1]
        return self.head(self.drop(x))


def net(made: Net | None = None) -> Net:
    """Return the same net every time."""
    made = Net() if made is None else made
    generator = torch.Generator().manual_seed(0)
    for value in made.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) + 0.1)
    return made.eval()


def archive(module: nn.Module, mode: str, path: Path) -> Path:
    """Write a module as one of the kinds of archive."""
    clips = torch.rand(BATCH, *CLIP, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        if mode == "scripted":
            torch.jit.script(module).save(path)
        elif mode == "traced":
            torch.jit.trace(module, clips).save(path)
        elif mode == "pickle":
            torch.save(module, path)
        else:
            batch = ({0: torch.export.Dim("batch")},) if "dynamic" in mode else None
            program = torch.export.export(module.train("train" in mode), (clips,), dynamic_shapes=batch)
            torch.export.save(program, path)
    module.eval()
    return path
