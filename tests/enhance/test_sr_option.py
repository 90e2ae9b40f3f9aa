"""`--sr` on the command line: what is wrong with a file is told before anything is audited."""

import sys

import pytest

from auditor.cli import main as cli


@pytest.mark.parametrize(
    ("name", "content"), [("a.onnx", b"junk"), ("a.pth", b"junk"), ("a.txt", b"junk"), ("a.safetensors", b"")]
)
def test_a_wrong_file_is_one_line_and_exit_2(monkeypatch, capsys, tmp_path, name, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(content)
    (tmp_path / "a_model.onnx").write_bytes(b"junk")
    # The model is no model either: the network is looked at first.
    monkeypatch.setattr(sys, "argv", ["fl-audit", "scan", "a_model.onnx", "--sr", name, "-o", "r.json"])
    with pytest.raises(SystemExit) as out:
        cli.main()
    shown = capsys.readouterr()
    assert out.value.code == 2
    assert len(shown.err.strip().splitlines()) == 1
    assert f"--sr {name}" in shown.err
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "a_model.onnx"])
