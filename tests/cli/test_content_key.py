"""The digest of a scan: the same for the same, another for whatever results depend on, none where code decides."""

import pytest

from auditor import content_key as module
from auditor.content_key import content_key
from auditor.option_rules import options_from
from auditor.options import ScanOptions


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.onnx").write_bytes(b"weights")
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.npz").write_bytes(b"a")
    return tmp_path


def key(**given):
    return content_key(options_from(ScanOptions, {"model": "m.onnx", **given}))


def test_the_same_scan_has_the_same_key_whatever_the_gate_stops_at(folder):
    assert key() == key()
    assert len(key()) == 64
    assert key(fail_on="low") == key()


def test_whatever_results_depend_on_changes_it(folder, monkeypatch):
    seen = [key(), key(seed=1), key(batch=2), key(preset="deep"), key(probes=["clips"])]
    (folder / "clips" / "a.npz").write_bytes(b"b")
    seen.append(key(probes=["clips"]))
    (folder / "clips" / "a.npz").rename(folder / "clips" / "c.npz")
    seen.append(key(probes=["clips"]))
    (folder / "m.onnx").write_bytes(b"other weights")
    seen.append(key())
    monkeypatch.setattr(module, "_program", lambda: "another program")
    seen.append(key())
    monkeypatch.setattr(module, "_version", lambda name: "9")
    seen.append(key())
    assert len(set(seen)) == len(seen)


def test_weights_outside_an_onnx_file_count(folder):
    (folder / "m.onnx").write_bytes(b"\x0alocation data/w.bin")
    (folder / "data").mkdir()
    (folder / "data" / "w.bin").write_bytes(b"1")
    (folder / "unrelated.bin").write_bytes(b"1")
    before = key()
    (folder / "unrelated.bin").write_bytes(b"2")
    assert key() == before
    (folder / "data" / "w.bin").write_bytes(b"2")
    assert key() != before


@pytest.mark.parametrize(
    "given",
    [
        {"model": "nets.py:net"},
        {"model": "torchvision:r3d_18"},
        {"model": "package.module:net"},
        {"loss": "loss.py:mine"},
        {"onnx_ops": ["ops.py"]},
    ],
)
def test_code_has_no_key(folder, given):
    assert key(**given) == ""
