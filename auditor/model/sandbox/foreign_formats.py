"""Formats that hold no model PyTorch or ONNX could read: what each one is, and what to do about it."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from auditor.text import printable

TF2ONNX = "python -m tf2onnx.convert"
ORIGIN = "give the PyTorch or ONNX model that it was made from"
UNPACK = "unpack it and give the model inside"


class Foreign(NamedTuple):
    """What it is, to follow "is", and what to do."""

    what: str
    remedy: str


# (offset, bytes) that open a file of each format.
SIGNATURES: Mapping[tuple[int, bytes], Foreign] = {
    (0, b"\x89HDF\r\n\x1a\n"): Foreign(
        "an HDF5 file, as Keras writes", "load it in Keras and write model.export('model.onnx', format='onnx')"
    ),
    (4, b"TFL3"): Foreign("a TensorFlow Lite model", f"convert it: {TF2ONNX} --tflite FILE --output model.onnx"),
    (4, b"ORTM"): Foreign("a model in ONNX Runtime's own format", "give the .onnx file that it was made from"),
    (4, b"ET"): Foreign("an ExecuTorch program, which has no gradients", ORIGIN),
    (0, b"GGUF"): Foreign("a GGUF file of quantised weights", ORIGIN),
    (0, b"ftrt"): Foreign("a TensorRT engine, which has no gradients", ORIGIN),
    (0, b"ptrt"): Foreign("a TensorRT engine, which has no gradients", ORIGIN),
    (0, b"\x93NUMPY"): Foreign("a NumPy array", ORIGIN),
    (257, b"ustar"): Foreign("a tar archive", UNPACK),
    (0, b"\x1f\x8b"): Foreign("gzip-compressed", UNPACK),
    (0, b"BZh"): Foreign("bzip2-compressed", UNPACK),
    (0, b"\xfd7zXZ\0"): Foreign("xz-compressed", UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c"): Foreign("a 7z archive", UNPACK),
    (0, b"\x28\xb5\x2f\xfd"): Foreign("zstd-compressed", UNPACK),
    (0, b"Rar!"): Foreign("a RAR archive", UNPACK),
    (0, b"PK\x05\x06"): Foreign("an empty zip archive", "copy it again"),
    (4, b"ftyp"): Foreign("a video", "give it to --probes, and a model here"),
    (0, b"\x89PNG"): Foreign("a picture", "give it to --probes, and a model here"),
    (0, b"\xff\xd8\xff"): Foreign("a picture", "give it to --probes, and a model here"),
    (0, b"RIFF"): Foreign("a video or sound file", "give it to --probes, and a model here"),
    (0, b"\x1aE\xdf\xa3"): Foreign("a video", "give it to --probes, and a model here"),
    (0, b"%PDF"): Foreign("a PDF", "give a model"),
}
# Patterns that text formats open with.
TEXTS: Mapping[re.Pattern[bytes], Foreign] = {
    re.compile(rb"version https://git-lfs"): Foreign(
        "a Git LFS pointer in place of the file", "fetch the file itself: git lfs pull"
    ),
    re.compile(rb"<!doctype html|<html", re.I): Foreign("a web page in place of the file", "download the file again"),
    re.compile(rb"(<\?xml[^>]*>\s*)?<net[\s>]"): Foreign("an OpenVINO model, which has no gradients", ORIGIN),
    re.compile(rb"<\?xml|<\w+[\s>]"): Foreign("an XML file", ORIGIN),
    re.compile(rb"[\[{]"): Foreign("a JSON or text file", "give a model"),
    re.compile(rb"#!|import |from \w|def |class |\"\"\""): Foreign(
        "a Python file", "name it .py and the function that returns the model: FILE.py:factory"
    ),
}
# Members that only one kind of zip archive has.
MEMBERS: Mapping[str, Foreign] = {
    r"model\.weights\.h5$": Foreign(
        "a Keras model", "load it in Keras and write model.export('model.onnx', format='onnx')"
    ),
    r"(^|/)saved_model\.pb$": Foreign(
        "a zipped TensorFlow SavedModel",
        f"unpack it and convert it: {TF2ONNX} --saved-model FOLDER --output model.onnx",
    ),
    r"MAR-INF/": Foreign("a TorchServe archive", UNPACK),
    r"\.npy$": Foreign("a NumPy archive of arrays without an architecture", ORIGIN),
    r"\.mlmodel$": Foreign("a Core ML model", ORIGIN),
    r"\.(onnx|pt2?|pth|safetensors)$": Foreign("a zip archive with a model inside", UNPACK),
}


def by_first_bytes(head: bytes) -> Foreign | None:
    """Recognise a binary format by its signature."""
    return next((found for (at, sign), found in SIGNATURES.items() if head[at:].startswith(sign)), None)


def by_text(head: bytes) -> Foreign | None:
    """Recognise a text format; any other text is named as such, unless it is empty."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text or any(byte < 9 or 13 < byte < 27 or byte > 126 for byte in text[:512]):
        return None
    known = next((found for pattern, found in TEXTS.items() if pattern.match(text)), None)
    return known or Foreign("a text file", "give a model")


def by_members(names: Collection[str]) -> Foreign:
    """Recognise a zip archive by the names inside it."""
    for pattern, found in MEMBERS.items():
        if any(re.search(pattern, name) for name in names):
            return found
    return Foreign("a zip archive without a model that is known here", UNPACK)


def folder(path: Path) -> Foreign:
    """Recognise a folder by the files in it."""
    shown = printable(str(path), 200)
    if (path / "saved_model.pb").is_file():
        return Foreign("a TensorFlow SavedModel", f"convert it: {TF2ONNX} --saved-model {shown} --output model.onnx")
    if (path / "adapter_config.json").is_file():
        return Foreign(
            "a folder of PEFT adapters, which need their base model",
            f"write a factory that returns peft.PeftModel.from_pretrained(network, {shown!r}, is_trainable=True)",
        )
    if (path / "config.json").is_file():
        return Foreign("a Hugging Face folder", f"give it as hf:{shown}")
    if (path / "Manifest.json").is_file() and (path / "Data").is_dir():
        return Foreign("a Core ML package", ORIGIN)
    models = sorted(file.name for file in path.glob("*.onnx"))
    if models:
        return Foreign("a folder", f"give the ONNX file inside it: {printable(str(path / models[0]), 200)}")
    return Foreign("a folder", "give the ONNX file inside it")
