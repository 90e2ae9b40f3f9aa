"""What a file is, is told by its content; what is no model is named, with what to do."""

import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from refusals import fails
from safetensors.torch import save_file
from torch import nn

from auditor.errors import NotAuditable, UsageError
from auditor.model import load
from auditor.model.sandbox.contents import identify


def zipped(**members: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.onnx"))
    return buffer.getvalue()


def arrays() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, w=np.ones(3))
    return buffer.getvalue()


FOREIGN = {
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5", "model.export"),
    "tflite": (b"\x1c\0\0\0TFL3" + bytes(100), "TensorFlow Lite", "tf2onnx"),
    "ort": (b"\x1c\0\0\0ORTM" + bytes(100), "ONNX Runtime's own format", ".onnx"),
    "gguf": (b"GGUF\x03\0\0\0" + bytes(100), "GGUF", "made from"),
    "npy": (b"\x93NUMPY\x01\0" + bytes(100), "NumPy", "made from"),
    "npz": (arrays(), "NumPy archive", "made from"),
    "tar": (tarred(), "tar archive", "unpack"),
    "gzip": (gzip.compress(b"x" * 99), "gzip", "unpack"),
    "openvino": (b'<?xml version="1.0"?>\n<net name="m" version="11">', "OpenVINO", "made from"),
    "html": (b"<!DOCTYPE html><html><body>404", "web page", "download"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer", "git lfs pull"),
    "json": (b'{"a": 1}', "JSON", "give a model"),
    "text": (b"hello\nworld\n", "text file", "give a model"),
    "python": (b"import torch\n", "Python file", ".py"),
    "keras": (zipped(config_dot_json="{}", model_dot_weights_dot_h5="x"), "Keras", "model.export"),
    "zip": (zipped(readme_dot_txt="x"), "zip archive", "unpack"),
    "zipped onnx": (zipped(model_dot_onnx="x"), "with a model inside", "unpack"),
    "aotinductor": (zipped(m__archive_format="pt2", m__data__aotinductor__x_dot_so="x"), "compiled", "compiled from"),
    "cut zip": (zipped(readme_dot_txt="x" * 99)[:60], "damaged zip", "copy it again"),
    "video": (b"\0\0\0\x18ftypmp42" + bytes(100), "a video", "--probes"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_model(name, tmp_path) -> None:
    content, what, remedy = FOREIGN[name]
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    fails(NotAuditable, what, remedy, source=str(path))


def test_folders(tmp_path) -> None:
    fails(UsageError, "is a folder", source=str(tmp_path))
    (tmp_path / "clip.onnx").write_bytes(b"x")
    fails(UsageError, "clip.onnx", source=str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    fails(UsageError, f"hf:{tmp_path}", source=str(tmp_path))
    (tmp_path / "saved_model.pb").write_text("")
    fails(UsageError, "SavedModel", "tf2onnx", source=str(tmp_path))


def test_names_mean_nothing(tmp_path) -> None:
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "w"], ["y"])]
    weight = numpy_helper.from_array(np.random.default_rng(0).normal(size=(192, 3)).astype(np.float32), "w")
    clip = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4, 4])
    graph = helper.make_graph(
        nodes, "g", [clip], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], [weight]
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    for name in ("m.pt", "m.pt2", "m.safetensors", "m"):
        onnx.save(proto, tmp_path / name)
        assert load(str(tmp_path / name), layout="NCTHW").format == "onnx"
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "m.onnx")
    fails(NotAuditable, "state dict", "path/file.py:factory --weights", source=str(tmp_path / "m.onnx"))
    save_file({"w": torch.ones(1)}, tmp_path / "s.onnx")
    fails(NotAuditable, "safetensors", "architecture", source=str(tmp_path / "s.onnx"))
    (tmp_path / "index.onnx").write_text(json.dumps({"weight_map": {"w": "a"}}))
    fails(NotAuditable, "index of a sharded checkpoint", source=str(tmp_path / "index.onnx"))


@pytest.mark.parametrize("new", [True, False])
def test_tensors_are_told_from_objects(new, tmp_path) -> None:
    net = nn.Sequential(nn.Conv3d(3, 2, 1), nn.BatchNorm3d(2)).half()
    kinds: dict[str, object] = {
        "weights": net.state_dict(),
        "pickle": net,
    }
    for kind, content in kinds.items():
        torch.save(content, tmp_path / kind, _use_new_zipfile_serialization=new)
        assert identify(tmp_path / kind).kind == kind
    torch.save({"model": net, "epoch": 1}, tmp_path / "nested", _use_new_zipfile_serialization=new)
    assert identify(tmp_path / "nested").kind == "pickle"


def test_any_bytes_are_something(tmp_path) -> None:
    random = np.random.default_rng(0)
    path = tmp_path / "m"
    torch.save(nn.Linear(2, 2), path)
    content = bytearray(path.read_bytes())
    for _ in range(100):
        mutated = bytearray(content)
        for place in random.integers(0, len(content), 5):
            mutated[place] = random.integers(0, 256)
        path.write_bytes(bytes(mutated[: random.integers(1, len(content))]))
        assert identify(path).what
    path.write_bytes(b"")
    assert identify(path).kind == "onnx"


def test_large_pickles_are_not_searched(tmp_path, monkeypatch) -> None:
    path = Path(tmp_path / "m")
    torch.save({"w": torch.ones(1)}, path)
    monkeypatch.setattr("auditor.model.sandbox.contents.LARGEST_PICKLE", 10)
    assert "unusually large" in identify(path).what
