"""Files made to do harm: pickles, archives, links, pipes and headers. Nothing runs, and one line says why."""

import io
import os
import pickle
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from test_model_safety import classifier, external
from torch import nn

from auditor.errors import AuditError, UsageError
from auditor.model import load
from auditor.model.pytorch.weights import read_weights
from auditor.model.sandbox import protobuf_count, untrusted_paths

FACTORY = "import torch\ndef factory():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 4))\n"


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


class Plain(nn.Module):
    """A module that holds something evil."""

    def __init__(self, marker: Path) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.evil = Evil(marker)


def rezipped(content: bytes, payload: bytes) -> bytes:
    """Return a zip archive with its pickle replaced."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w") as new:
        for info in old.infolist():
            new.writestr(info, payload if info.filename.endswith(("data.pkl", ".pt")) else old.read(info))
    return made.getvalue()


def saved(value: object, **options: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def exported(payload: bytes) -> bytes:
    """Return an archive with the members of torch.export.save, its pickles replaced."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("m/archive_format", b"pt2")
        archive.writestr("m/models/model.json", b"{}")
        archive.writestr("m/data/weights/model.pt", payload)
        archive.writestr("m/data/sample_inputs/model.pt", payload)
    return made.getvalue()


def scripted(payload: bytes) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(nn.Flatten(), torch.ones(1, 2)), stream)
    return rezipped(stream.getvalue(), payload)


KINDS = {
    "pickle": lambda marker: pickle.dumps(Evil(marker)),
    "old pickle": lambda marker: pickle.dumps({"w": Evil(marker)}, protocol=2),
    "text pickle": lambda marker: pickle.dumps(Evil(marker), protocol=0),
    "module": lambda marker: saved(Plain(marker)),
    "state dict": lambda marker: saved({"w": torch.ones(2), "evil": Evil(marker)}),
    "legacy": lambda marker: saved({"w": torch.ones(2), "evil": Evil(marker)}, _use_new_zipfile_serialization=False),
    "pt2": lambda marker: exported(pickle.dumps(Evil(marker))),
    "pt2 of state": lambda marker: exported(saved({"0.weight": Evil(marker)})),
    "torchscript": lambda marker: scripted(pickle.dumps(Evil(marker))),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["m.onnx", "m.pt", "m.pt2", "m.safetensors"])
def test_pickles_do_not_run(kind, name, tmp_path) -> None:
    marker = tmp_path / "ran"
    path = tmp_path / name
    path.write_bytes(KINDS[kind](marker))
    (tmp_path / "f.py").write_text(FACTORY)
    attempts = ((str(path), None), (f"{tmp_path / 'f.py'}:factory", path))
    for source, weights in attempts:
        with pytest.raises(AuditError) as caught:
            load(source, weights=weights, input_shape=(3, 4, 8, 8))
        assert str(caught.value).isprintable()
        assert caught.value.remedy
        assert not marker.exists()


def test_the_payload_works(tmp_path) -> None:
    """A harmless payload would prove nothing."""
    pickle.loads(KINDS["pickle"](tmp_path / "ran"))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 20_000) + b"{" + b'"a":{' * 3333 + b" " * 4,
        struct.pack("<Q", 66)
        + b'{"w":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,4]}}'[:66]
        + b"\0" * 4,
        struct.pack("<Q", 63) + b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"\xff\xfe":1}' + b"\0" * 4,
        struct.pack("<Q", 59) + b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[900,908]}}  ' + b"\0" * 8,
    ],
)
def test_hostile_safetensors(content, tmp_path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    (tmp_path / "f.py").write_text(FACTORY)
    for source, weights in ((str(path), None), (f"{tmp_path / 'f.py'}:factory", path)):
        with pytest.raises(AuditError) as caught:
            load(source, weights=weights, input_shape=(3, 4, 8, 8))
        assert str(caught.value).isprintable()


def refused(source: str) -> str:
    with pytest.raises(AuditError) as caught:
        load(source)
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 2000
    return text


@pytest.mark.parametrize(
    "location",
    [
        "https://example.com/data", "file:///etc/passwd", "//host/share", "./data", "a//b", "data/", "~/data", "$HOME",
        "CON:", "data\x1b[31m", "\u202eatad", "x" * 1_000_000, "x" * 300, "/".join(["sub"] * 2000),
        "proc/self/fd/0", "data/../data",
    ],
)  # fmt: skip
def test_strange_locations(location, tmp_path) -> None:
    refused(external(tmp_path, location))


@pytest.mark.parametrize("source", ["x" * 5000, "x" * 5000 + ".py:make", "x" * 5000 + ":make", "hf:" + "x" * 5000])
def test_sources_that_can_be_no_path(source) -> None:
    assert len(refused(source)) < 1000


def test_a_weights_path_that_can_be_no_path() -> None:
    with pytest.raises(UsageError, match="there is no weights file"):
        read_weights(Path("x" * 5000))


def test_a_folder_that_is_a_link(tmp_path) -> None:
    secret, home = tmp_path / "secret", tmp_path / "home"
    secret.mkdir()
    home.mkdir()
    (secret / "data").write_bytes(bytes(384))
    (home / "sub").symlink_to(secret)
    assert "outside its folder" in refused(external(home, "sub/data"))
    (home / "sub").unlink()
    (home / "sub").mkdir()
    (home / "sub" / "data").write_bytes(np.ones(96, np.float32).tobytes())
    assert load(str(home / "m.onnx")).classes == 4


def test_a_link_within_the_folder_and_one_in_circles(tmp_path) -> None:
    source = external(tmp_path, "link")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert "is a link" in refused(source)
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("link")
    assert "is a link" in refused(source)


def test_what_was_checked_is_what_is_read(tmp_path, monkeypatch) -> None:
    """Between check and reading the data file is exchanged for a link; what is read stays what was checked."""
    source = external(tmp_path, "data")
    good = load(source)
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(384))
    content = untrusted_paths._content

    def exchanged(descriptor: int, size: int) -> bytes:
        if size == 384 and not (tmp_path / "data").is_symlink():
            (tmp_path / "data").unlink()
            (tmp_path / "data").symlink_to(secret)
        return content(descriptor, size)

    monkeypatch.setattr(untrusted_paths, "_content", exchanged)
    again = load(source)
    assert (tmp_path / "data").is_symlink()
    assert again.sha256 == good.sha256
    assert torch.equal(again.parameters["weight"], good.parameters["weight"])


def test_many_tensors_that_share_one_file_do_not_multiply_it(tmp_path, monkeypatch) -> None:
    source = external(tmp_path, "data")
    monkeypatch.setattr(untrusted_paths, "LARGEST_FILE", 700)
    proto = classifier()
    del proto.graph.initializer[:]
    stored = onnx.load(source, load_external_data=False).graph.initializer[0]
    for i in range(3):
        copy = proto.graph.initializer.add()
        copy.CopyFrom(stored)
        copy.name = "weight" if i == 0 else f"w{i}"
    Path(source).write_bytes(proto.SerializeToString())
    monkeypatch.setattr(untrusted_paths, "LARGEST_FILE", 1000)
    assert "external data" in refused(source)


def test_a_model_that_is_no_plain_file(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to("circle")
    for source in (
        "/dev/zero",
        "/dev/tty",
        str(tmp_path / "pipe"),
        str(tmp_path / "circle"),
        str(tmp_path),
        "x" * 5000,
    ):
        refused(source)


def test_a_link_to_the_model_is_the_users_own(tmp_path) -> None:
    (tmp_path / "m.onnx").write_bytes(classifier().SerializeToString())
    (tmp_path / "link.onnx").symlink_to("m.onnx")
    assert load(str(tmp_path / "link.onnx")).classes == 4


def test_millions_of_fields_are_refused_before_they_are_parsed(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(protobuf_count, "MOST_FIELDS", 20_000)
    graph = b"\x0a\x00" * 21_000  # empty nodes: two bytes each, hundreds once parsed
    head = classifier().SerializeToString()
    size, rest = bytearray(), len(graph)
    while rest > 127:
        size.append(rest & 127 | 128)
        rest >>= 7
    size.append(rest)
    (tmp_path / "m.onnx").write_bytes(head + b"\x3a" + bytes(size) + graph)
    assert "more than 20000 fields" in refused(str(tmp_path / "m.onnx"))
