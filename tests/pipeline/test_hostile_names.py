"""A model whose names are attacks, through a whole scan and every output."""

import dataclasses
import io
import json
import re

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from auditor.attack import PRESETS
from auditor.pipeline import ScanOptions, Silent, scan
from auditor.report import read_results, terminal_summary, write

pytestmark = pytest.mark.slow  # a whole scan
ATTACKS = (
    "<script>alert(1)</script>",
    "\x1b[31mred",
    "\u202egnp.exe",
    "a\u200bb\nc\rd",
    "=cmd()|' /C calc'!A0",
    "[x](javascript:alert(1)) `code` | cell |",
    "{{7*7}}{% for x in y %}",
)
INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")


def hostile_model(path):
    """Write a classifier in which every name is an attack, and two weights differ after a million characters only."""
    attack = " ".join(ATTACKS)
    long = attack + "y" * 1_000_000
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.normal(size=(4, 3, 1, 8, 8)).astype(np.float32), long + "1"),
        numpy_helper.from_array(rng.normal(size=(4, 4)).astype(np.float32), long + "2"),
    ]
    clip, logits = attack + "in", attack + "out"
    nodes = [
        helper.make_node("Conv", [clip, long + "1"], ["maps"], name=attack, strides=[1, 8, 8]),
        helper.make_node("ReduceMean", ["maps"], ["m"], axes=[2, 3, 4], keepdims=0),
        helper.make_node("MatMul", ["m", long + "2"], [logits], name=long),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, attack, [value(clip, TensorProto.FLOAT, [1, 3, 2, 16, 16])], [value(logits, TensorProto.FLOAT, [1, 4])],
        weights, doc_string=attack,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9, producer_name=attack)
    entry = model.graph.node[0].metadata_props.add()
    entry.key, entry.value = "pkg.torch.onnx.name_scopes", repr([attack, attack])
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    path = hostile_model(tmp_path_factory.mktemp("hostile") / "<script>alert(1)<\u202e>.onnx")
    PRESETS["tiny"] = dataclasses.replace(PRESETS["fast"], name="tiny", steps=5, seconds=600.0)
    try:
        return scan(ScanOptions(model=str(path), preset="tiny"), Silent()).results
    finally:
        del PRESETS["tiny"]


def texts(value):
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts(item)
    elif isinstance(value, str) and not value.startswith("data:image/"):
        yield value


def test_results_hold_short_plain_names_that_differ(results, tmp_path):
    write(results, [tmp_path / "results.json"])
    assert (tmp_path / "results.json").stat().st_size < 2_000_000
    for text in texts(json.loads((tmp_path / "results.json").read_text())):
        assert not INVISIBLE.search(text)
        assert len(text) < 2000
    names = [name for layer in results["layers"] for name in layer["parameters"]]
    assert len(names) == len(set(names)) == 2
    assert len({layer["name"] for layer in results["layers"]}) == len(results["layers"])


def test_reports_are_inert_and_small(results, tmp_path):
    write(results, [tmp_path / "results.json"])
    read = read_results(tmp_path / "results.json")
    write(read, [tmp_path / "r.html"])
    write(read, [tmp_path / "r.md"])
    page, text = (tmp_path / "r.html").read_text(), (tmp_path / "r.md").read_text()
    assert "<script" not in page
    assert "javascript:alert" not in re.findall(r'href="([^"]*)"', page)
    assert ">49<" not in page
    assert "<script" not in text.replace("&lt;script", "").replace("\\<script", "")
    for made in (page, text):
        assert not INVISIBLE.search(made)
        assert len(made) < 5_000_000
    screen = io.StringIO()
    terminal_summary(read, Console(file=screen, width=80, no_color=True))
    assert not INVISIBLE.search(screen.getvalue())
    assert len(screen.getvalue().splitlines()) <= 30


def test_arguments_of_a_factory_are_stored_as_they_were_given():
    from auditor.pipeline import ScanOptions

    options = ScanOptions(model="nets.py:net", arg=(("width", 6), ("name", "a")))
    assert options.as_json()["arg"] == ["width=6", "name=a"]
