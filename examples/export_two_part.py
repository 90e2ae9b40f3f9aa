"""Export a tiny two-part model to ONNX: a frozen feature extractor, and the linear head that clients train on it.

Usage: python examples/export_two_part.py FOLDER
Then:  fl-audit scan --extractor FOLDER/extractor.onnx --head FOLDER/head.onnx
"""

import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

FEATURES, CLASSES = 512, 10


class Extractor(nn.Module):
    """Two convolutions over space and time; in practice a network that was trained on public clips."""

    input_shape = (3, 8, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(3, 16, kernel_size=3, stride=(1, 2, 2), padding=1),
            nn.GELU(),
            nn.Conv3d(16, 8, kernel_size=3, stride=(2, 4, 4), padding=1),
            nn.GELU(),
            nn.Flatten(),
        )

    def forward(self, clips: Tensor) -> Tensor:
        """Map clips `(clip, 3, 8, 32, 32)` to features `(clip, 512)`."""
        return self.layers(clips)


def extractor() -> nn.Module:
    """Build the extractor, so that `--extractor examples/export_two_part.py:extractor` works too."""
    torch.manual_seed(0)
    return Extractor()


def head() -> nn.Module:
    """Build the head."""
    torch.manual_seed(1)
    return nn.Linear(FEATURES, CLASSES)


def main() -> None:
    """Write both parts, with an open batch and all parameters under their own names."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    parts = (("extractor", extractor(), torch.rand(2, 3, 8, 32, 32)), ("head", head(), torch.rand(2, FEATURES)))
    for name, part, example in parts:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                part.eval(), (example,), str(folder / f"{name}.onnx"), dynamo=True, optimize=False, verbose=False,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )  # fmt: skip
        print(f"wrote {folder / name}.onnx")


if __name__ == "__main__":
    main()
