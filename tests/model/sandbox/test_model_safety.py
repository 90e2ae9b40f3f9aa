"""Model files that nobody vouches for: where their data may lie, and what their names may do."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from auditor.errors import NotAuditable
from auditor.model import load
from auditor.model.sandbox import onnx_file as reading
from auditor.model.sandbox import untrusted_paths


def classifier(prefix: str = "") -> onnx.ModelProto:
    generator = np.random.default_rng(0)
    weight = numpy_helper.from_array(generator.normal(size=(4, 3, 2, 2, 2)).astype(np.float32), prefix + "weight")
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["clip", prefix + "weight"], ["maps"], name=prefix + "conv"),
            helper.make_node("ReduceMean", ["maps"], ["logits"], axes=[2, 3, 4], keepdims=0),
        ],
        "g",
        [helper.make_tensor_value_info("clip", TensorProto.FLOAT, [1, 3, 4, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 4])],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def external(folder: Path, location: str, length: int | None = None, offset: int = 0) -> str:
    """Write a model whose weight lies at `location`; the data file `data` lies in the folder."""
    proto = classifier()
    weight = proto.graph.initializer[0]
    content = weight.raw_data
    (folder / "data").write_bytes(content)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length or len(content))):
        entry = weight.external_data.add()
        entry.key, entry.value = key, str(value)
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    return str(path)


def refused(source: str, *words: str) -> None:
    with pytest.raises(NotAuditable) as caught:
        load(source)
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.remedy
    for word in words:
        assert word in text


def test_external_data_beside_the_model_loads(tmp_path) -> None:
    first = load(external(tmp_path, "data"))
    assert first.classes == 4
    (tmp_path / "data").write_bytes(np.ones(96, np.float32).tobytes())
    assert load(str(tmp_path / "m.onnx")).sha256 != first.sha256


def test_missing_data(tmp_path) -> None:
    source = external(tmp_path, "data")
    (tmp_path / "data").unlink()
    refused(source, "external data 'data' is missing")


@pytest.mark.parametrize("location", ["../data", "sub/../../data", "/etc/passwd", "", "C:\\data", "..\\data", "a\0b"])
def test_locations_outside_the_folder(tmp_path, location) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "data").write_bytes(b"\0" * 384)
    source = external(tmp_path / "home", location)
    refused(source, "outside its folder")


def test_a_link_that_leads_outside(tmp_path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    secret = tmp_path / "secret"
    secret.write_bytes(b"\0" * 384)
    source = external(home, "link")
    (home / "link").symlink_to(secret)
    refused(source, "outside its folder")


def test_a_hard_link(tmp_path) -> None:
    source = external(tmp_path, "data")
    os.link(tmp_path / "data", tmp_path / "other")
    refused(source, "hard link")


def test_a_pipe_and_a_folder(tmp_path) -> None:
    source = external(tmp_path, "pipe")
    os.mkfifo(tmp_path / "pipe")
    refused(source, "not a regular file")
    (tmp_path / "pipe").unlink()
    (tmp_path / "pipe").mkdir()
    refused(source, "not a regular file")


@pytest.mark.parametrize(("length", "offset"), [(None, 8), (380, 0), (388, 0), (None, -4), (10**18, 0)])
def test_ranges_outside_the_data(tmp_path, length, offset) -> None:
    refused(external(tmp_path, "data", length, offset), "outside its external data file")


def test_limits(tmp_path, monkeypatch) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(classifier().SerializeToString())
    monkeypatch.setattr(untrusted_paths, "LARGEST_FILE", 100)
    refused(str(path), "GiB are read")
    monkeypatch.setattr(untrusted_paths, "LARGEST_FILE", 10**9)
    monkeypatch.setattr(reading, "MOST_TENSORS", 0)
    refused(str(path), "tensors")
    monkeypatch.undo()
    monkeypatch.setattr("auditor.model.onnx.graph.BIG_NUMBER_OF_NODES", 1)
    refused(str(path), "nodes")


def test_deep_nesting(tmp_path) -> None:
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Identity", ["clip"], ["y"])], "inner", [], [out])
    for _ in range(20):
        node = helper.make_node("If", ["yes"], ["y"], then_branch=graph)
        graph = helper.make_graph([node], "outer", [], [out])
    proto = classifier()
    proto.graph.node.append(helper.make_node("If", ["yes"], ["z"], then_branch=graph))
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    refused(str(path), "nested more than 16 deep")


HOSTILE = "\x1b[31mred\x1b[0m\u202e<script>alert(1)</script>\n" + "x" * 500


def test_hostile_names_are_inert_wherever_they_are_shown(tmp_path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(classifier(HOSTILE).SerializeToString())
    target = load(str(path))
    name = target.layers[0].name
    assert "\x1b" not in name
    assert "\u202e" not in name
    assert "\n" not in name
    assert len(name) <= 120
    assert HOSTILE + "weight" in target.parameters  # the key itself stays what the file says
    bad = classifier(HOSTILE)
    bad.graph.node[0].op_type = HOSTILE
    path.write_bytes(bad.SerializeToString())
    with pytest.raises(NotAuditable) as caught:
        load(str(path))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "name", ["type.weight", "a..b", ".x", "forward", "training", "a", "_modules.weight", "w.", "x y/z:0"]
)
def test_any_name_survives(tmp_path, name) -> None:
    proto = classifier()
    proto.graph.initializer[0].name = name
    proto.graph.node[0].input[1] = name
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    assert list(load(str(path)).parameters) == [name]
