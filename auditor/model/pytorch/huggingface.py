"""Video classifiers in a local Hugging Face folder: its configuration and weights are read, code never."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from auditor.errors import NotAuditable, UsageError
from auditor.model.pytorch.built import Built
from auditor.model.pytorch.fitting import told
from auditor.model.pytorch.inner import Inner
from auditor.model.pytorch.weights import Weights, read_weights
from auditor.model.sandbox.user_file import in_a_line
from auditor.text import printable

# The names that transformers gives the classifiers, by `model_type`.
CLASSIFIERS: Mapping[str, str] = {
    "videomae": "VideoMAEForVideoClassification",
    "timesformer": "TimesformerForVideoClassification",
    "vivit": "VivitForVideoClassification",
}
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
PREPROCESSORS = ("preprocessor_config.json", "video_preprocessor_config.json")
LARGEST_JSON = 16 * 2**20
BYTE = 255.0


class VideoClassifier(Inner):
    """A classifier of transformers that returns its logits alone."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of clips `(clip, frame, channel, height, width)`."""
        return self.inner(pixel_values=x).logits


def from_huggingface(folder: Path, classes: int | None, weights: Weights | None) -> Built:
    """Build a video classifier from a folder with `config.json` and weights; `weights` replace those of the folder.

    Raises
    ------
    UsageError
        transformers is not installed, or there is no such folder.
    NotAuditable
        It holds no video classifier that is supported, or weights that do not fit it.
    """
    shown = printable(str(folder), 200)
    if not os.path.isdir(folder):
        raise UsageError(f"there is no folder {shown}", "give hf:FOLDER with its config.json; nothing is downloaded")
    settings = _read_json(folder / "config.json")
    if settings is None:
        raise NotAuditable(f"{shown} holds no config.json", "give the folder that save_pretrained wrote")
    name = _classifier(settings, shown)
    found = weights if weights is not None else _weights(folder, shown)
    network, config = _filled(name, settings, classes, found)
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    mean, std, value_range, notes = _preprocessing(folder)
    return Built(
        VideoClassifier(network),
        printable(folder.resolve().name),
        (int(config.num_frames), int(config.num_channels), int(height), int(width)),
        "NTCHW",
        mean,
        std,
        value_range,
        origin="published in config.json",
        notes=(*found.notes, *notes),
    )


def _classifier(settings: Mapping[str, Any], shown: str) -> str:
    """Return the name of the class in transformers."""
    kind = str(settings.get("model_type"))
    if kind not in CLASSIFIERS:
        raise NotAuditable(
            f"{shown} holds a model of type {printable(kind, 40)}",
            f"give one of type {', '.join(CLASSIFIERS)}, or load it in a factory (path/file.py:factory)",
        )
    stated = settings.get("architectures") or [CLASSIFIERS[kind]]
    if CLASSIFIERS[kind] not in stated:
        raise NotAuditable(
            f"{shown} holds {printable(str(stated[0]), 60)}, which is no classifier",
            f"train it as {CLASSIFIERS[kind]} and save that",
        )
    if settings.get("quantization_config") is not None:
        raise NotAuditable(f"{shown} holds quantised weights, which clients do not train", "give those in float32")
    return CLASSIFIERS[kind]


def _weights(folder: Path, shown: str) -> Weights:
    path = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if path is None:
        raise NotAuditable(f"{shown} holds no weights", f"put {WEIGHTS[0]} beside its config.json, or give --weights")
    return read_weights(path)


def _filled(name: str, settings: Mapping[str, Any], classes: int | None, weights: Weights) -> tuple[nn.Module, Any]:
    """Return the classifier with all its weights, and its configuration."""
    try:
        import transformers
    except ImportError as error:
        raise UsageError(
            f"transformers cannot be imported ({in_a_line(error)})", "install it: pip install 'fl-audit[hf]'"
        ) from error
    # Settings with an underscore choose kernels, which transformers would fetch; auto_map names code to fetch.
    plain = {key: value for key, value in settings.items() if not key.startswith("_") and key != "auto_map"}
    plain.pop("attn_implementation", None)
    if classes is not None:
        plain = {key: value for key, value in plain.items() if key not in ("id2label", "label2id")}
        plain["num_labels"] = classes
    kind = getattr(transformers, name)
    with _quiet(transformers):
        try:
            config = kind.config_class.from_dict(plain)
            # Its own loader knows what tensors were called in older versions; nothing but the given state is read.
            network, report = kind.from_pretrained(
                None,
                config=config,
                state_dict=dict(weights.state),
                attn_implementation="sdpa" if kind._supports_sdpa else "eager",
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        except Exception as error:
            raise NotAuditable(
                f"config.json describes no {name} that can be built ({in_a_line(error)})", "correct config.json"
            ) from error
    _check(network, weights, report)
    return network, config


def _check(network: nn.Module, weights: Weights, report: Mapping[str, Any]) -> None:
    own = network.state_dict()
    odd = report["mismatched_keys"]
    shapes = {str(item[0]): (tuple(item[1]), tuple(item[2])) for item in odd}
    missing, unexpected = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    if missing or unexpected or shapes:
        given = {key: torch.empty(there, device="meta") for key, (there, _) in shapes.items()}
        cause, remedy = told(own, {**own, **given}, missing, unexpected, sorted(shapes))
        raise UsageError(f"{weights.name} does not fit the model: {cause}", remedy)


def _preprocessing(folder: Path) -> tuple[Any, Any, tuple[float, float] | None, tuple[str, ...]]:
    """Return mean, std and value range from the settings of the folder's preprocessor."""
    settings = next((found for name in PREPROCESSORS if (found := _read_json(folder / name)) is not None), None)
    if settings is None:
        return None, None, None, ("No preprocessor_config.json: pixels enter in [0, 1]; give --mean and --std.",)
    try:
        shift = float(bool(settings.get("offset")))
        scale = BYTE * float(settings.get("rescale_factor", 1 / BYTE)) if settings.get("do_rescale", True) else BYTE
        mean, std = (
            tuple(float(v) for v in settings.get(key) or ()) if settings.get("do_normalize", True) else ()
            for key in ("image_mean", "image_std")
        )
    except (TypeError, ValueError) as error:
        raise NotAuditable("the preprocessor's settings are damaged", "correct preprocessor_config.json") from error
    return mean or None, std or None, (-shift, scale - shift), ()


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    name = printable(path.name)
    if path.stat().st_size > LARGEST_JSON:
        raise NotAuditable(f"{name} is too large for settings", "give the folder that save_pretrained wrote")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise NotAuditable(f"{name} is not JSON", "give the folder that save_pretrained wrote") from error
    if not isinstance(content, dict):
        raise NotAuditable(f"{name} holds no settings", "give the folder that save_pretrained wrote")
    return content


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keep transformers from writing to the terminal: what it would say is checked and told as an error."""
    logging = transformers.utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
