"""Architectures of torchvision, for clips and for single frames; nothing is downloaded."""

import difflib
from collections.abc import Mapping
from typing import Any

from auditor.errors import UsageError
from auditor.model.pytorch.arguments import check_arguments, constructor_error
from auditor.model.pytorch.built import Built
from auditor.model.sandbox.user_file import in_a_line
from auditor.text import printable

VIDEO_SHAPE = (3, 16, 112, 112)
# Architectures whose position embeddings fix the frame size.
FIXED_SHAPES = {"mvit_v1_b": (3, 16, 224, 224), "mvit_v2_s": (3, 16, 224, 224)}
FRAMES = 8
IMAGE_SHAPE = (FRAMES, 3, 224, 224)
# They fetch weights: those of the user come with --weights.
FETCHING = ("weights", "weights_backbone", "pretrained", "progress")


def from_torchvision(name: str, classes: int | None, arguments: Mapping[str, Any]) -> Built:
    """Build an architecture of torchvision with random weights.

    Raises
    ------
    UsageError
        torchvision cannot be imported, has no such classification model, or that takes other arguments.
    """
    try:
        import torchvision
        from torchvision import models
    except (ImportError, RuntimeError) as error:  # a CPU-only torch beside a CUDA torchvision raises RuntimeError
        raise UsageError(
            f"torchvision cannot be imported ({in_a_line(error)})",
            "install torch and torchvision together: pip install --force-reinstall torch torchvision",
        ) from error
    videos, images = models.list_models(module=torchvision.models.video), models.list_models(module=torchvision.models)
    if name not in (*videos, *images):
        near = difflib.get_close_matches(name, [*videos, *images], 3, 0.4)
        hint = f"did you mean {', '.join(near)}?" if near else f"video models are {', '.join(videos)}"
        raise UsageError(f"torchvision has no classification model '{printable(name)}'", hint)
    shown = f"torchvision:{name}"
    refuse_fetching(shown, arguments, FETCHING)
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = True
    check_arguments(shown, models.get_model_builder(name), arguments)
    try:
        network = models.get_model(name, weights=None, **(options | dict(arguments)))
    except Exception as error:
        raise constructor_error(shown, error, arguments, lambda: models.get_model(name, weights=None)) from error
    mean, std = _published_normalisation(name)
    video = name in videos
    return Built(
        network,
        name,
        FIXED_SHAPES.get(name, VIDEO_SHAPE) if video else IMAGE_SHAPE,
        "NCTHW" if video else "NCHW",
        mean,
        std,
        origin="published by torchvision",
        weighted=False,
    )


def refuse_fetching(shown: str, arguments: Mapping[str, Any], names: tuple[str, ...]) -> None:
    """Refuse arguments that would fetch or read weights.

    Raises
    ------
    UsageError
        There is one.
    """
    for name in arguments:
        if name in names:
            raise UsageError(
                f"--arg {printable(name)} would have {shown} read weights by itself, which may download them",
                "give a file with --weights",
            )


def _published_normalisation(name: str) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return the mean and std that torchvision's own transforms use for a model."""
    from torchvision import models

    transforms = models.get_model_weights(name).DEFAULT.transforms()
    mean, std = getattr(transforms, "mean", None), getattr(transforms, "std", None)
    if mean is None or std is None:
        return None, None
    return tuple(float(v) for v in mean), tuple(float(v) for v in std)
