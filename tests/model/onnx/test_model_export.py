"""Exports that keep what clients train: verified against the module, whole or not at all, refused in one line."""

import onnx
import pytest
import torch
from zoo import NETS

import auditor.model.onnx.export as exporting
from auditor.cli.exporting import exported_text
from auditor.errors import NotAuditable, UsageError
from auditor.model import load
from auditor.model.onnx.export import export_onnx

FACTORIES = """
import sys
sys.path[:0] = {paths!r}
import zoo

def _make(name):
    def factory():
        net = zoo.build(name)
        net.input_shape = zoo.SHAPE
        return net
    return factory

for _name in zoo.NETS:
    globals()[_name.replace("-", "_")] = _make(_name)
"""


@pytest.fixture
def factory(tmp_path):
    from pathlib import Path

    path = tmp_path / "nets.py"
    path.write_text(FACTORIES.format(paths=[str(Path(__file__).parents[1])]))
    return lambda name: f"{path}:{name.replace('-', '_')}"


# By TorchDynamo, which opset 20 is written by, two transformers would be one too many: it takes seconds.
EXPORTS = [
    pytest.param(opset, name, marks=pytest.mark.slow if (opset, name) == (20, "encoder") else ())
    for opset in (17, 20)
    for name in ("pooled", "gru", "vivit-cls", "encoder")
]


@pytest.mark.parametrize(("opset", "name"), EXPORTS)
def test_an_export_holds_every_parameter_and_its_gradient(name, opset, factory, tmp_path, capfd) -> None:
    out = tmp_path / "m.onnx"
    made = export_onnx(factory(name), out, opset=opset)
    assert capfd.readouterr() == ("", "")
    assert made.agreement.matched == made.agreement.parameters == len(list(NETS[name]().named_parameters()))
    assert made.agreement.gradient < 1e-4
    assert bool(made.fallback) == (opset == 17)
    again = load(str(out))
    original = load(factory(name))
    assert set(again.parameters) == set(original.parameters)
    assert again.fidelity.batch == "dynamic"
    assert again.fidelity.batchnorm == original.fidelity.batchnorm
    clips = torch.rand(4, 8, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(again.model(clips), original.model(clips), rtol=1e-4, atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".onnx") == ["m.onnx"]


def test_a_written_file_tells_nothing_of_this_machine(factory, tmp_path) -> None:
    export_onnx(factory("pooled"), tmp_path / "m.onnx")
    content = (tmp_path / "m.onnx").read_bytes()
    assert str(tmp_path).encode() not in content
    assert b"zoo.py" not in content
    onnx.checker.check_model(str(tmp_path / "m.onnx"))


def test_where_the_newer_exporter_fails_the_older_one_writes_and_that_is_told(factory, tmp_path, monkeypatch) -> None:
    real = torch.onnx.export

    def failing(*positional, **options):
        if options["dynamo"]:
            raise RuntimeError("no such\nthing")
        return real(*positional, **options)

    monkeypatch.setattr(torch.onnx, "export", failing)
    made = export_onnx(factory("pooled"), tmp_path / "m.onnx")
    assert made.exporter == exporting.LEGACY
    assert "RuntimeError: no such" in made.fallback
    assert "the older one" in exported_text(made)
    assert load(str(tmp_path / "m.onnx")).fidelity.batchnorm == "kept"


def test_a_file_that_is_not_faithful_never_appears(factory, tmp_path, monkeypatch) -> None:
    real = torch.onnx.export
    monkeypatch.setattr(torch.onnx, "export", lambda *p, **o: real(*p, **(o | {"optimize": True, "training": None})))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(NotAuditable, match="parameters are missing or changed"):
        export_onnx(factory("pooled"), tmp_path / "m.onnx")
    left = [
        p for p in sorted(tmp_path.iterdir()) if p not in before and p.name != "nets.py" and p.name != "__pycache__"
    ]
    assert left == []


def test_a_changed_weight_is_noticed(factory, tmp_path, monkeypatch) -> None:
    real = exporting._without_private_notes

    def spoil(path):
        real(path)
        proto = onnx.load(str(path))
        weight = next(t for t in proto.graph.initializer if t.name == "head.bias")
        weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 1.01, "head.bias"))
        onnx.save(proto, str(path))

    monkeypatch.setattr(exporting, "_without_private_notes", spoil)
    with pytest.raises(NotAuditable, match=r"head\.bias"):
        export_onnx(factory("pooled"), tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def test_a_file_is_replaced_only_by_force(factory, tmp_path) -> None:
    out = tmp_path / "m.onnx"
    out.write_bytes(b"mine")
    with pytest.raises(UsageError, match="--force"):
        export_onnx(factory("pooled"), out)
    assert out.read_bytes() == b"mine"
    export_onnx(factory("pooled"), out, overwrite=True, opset=17)
    with pytest.raises(UsageError, match="is ONNX already"):
        export_onnx(str(out), tmp_path / "n.onnx")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("m.pb", {}, "does not end in .onnx"),
        ("no/m.onnx", {}, "no folder"),
        ("m.onnx", {"opset": 9}, "--opset 9"),
        ("m.onnx", {"opset": 99}, "--opset 99"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_loaded(name, options, message, tmp_path) -> None:
    with pytest.raises(UsageError, match=message):
        export_onnx("nothing.py:here", tmp_path / name, **options)


def test_more_than_a_file_can_hold_is_refused(factory, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(exporting, "LARGEST", 100)
    with pytest.raises(UsageError, match="scan the PyTorch source itself"):
        export_onnx(factory("pooled"), tmp_path / "m.onnx")


def test_without_onnxscript_the_line_to_install_it_is_given(factory, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(UsageError, match=r"pip install 'fl-audit\[export\]'"):
        export_onnx(factory("pooled"), tmp_path / "m.onnx")
