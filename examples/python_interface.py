"""fl-audit from Python: read a model, attack one clip, audit it.

Usage: python examples/python_interface.py [SECONDS]

The options are those of the command line, under the same names (docs/options.md). SECONDS is the time for the audit,
180 if left out; 0 leaves it out.
"""

import sys
from pathlib import Path

import torch
from torch import nn

import auditor


class TinyNet(nn.Module):
    """A network on clips (batch, channel, frame, height, width) whose first layer is linear: its update tells all."""

    input_shape = (3, 4, 8, 8)

    def __init__(self, classes: int = 6) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 4 * 8 * 8, classes)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, class)."""
        return self.head(clips.flatten(1))


def main(seconds: float = 180.0) -> None:
    """Read, attack and audit the network above."""
    source = f"{Path(__file__)}:TinyNet"
    target = auditor.load(source, layout="NCTHW")
    print(f"{target.name}: {len(target.parameters)} parameters, {target.classes} classes")

    attacked = auditor.attack(source, layout="NCTHW", attack="linear-input", clip="hand_box", device="cpu")
    print(f"{attacked.attack.name}: {attacked.grade.name}, {attacked.score.psnr:.1f} dB")

    try:
        auditor.scan(source, momentum=0.9)
    except auditor.UsageError as error:
        print(f"refused: {error}")

    if seconds:
        audit = auditor.scan(source, layout="NCTHW", max_time=seconds, device="cpu")
        print(f"verdict: {audit.results['verdict']['word']}")


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
