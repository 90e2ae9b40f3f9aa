"""What `merge` takes for shards of one scan, and the examples that make them."""

import json
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from auditor.cli.main import app
from auditor.cli.scale.shard import put_together, write_origin
from auditor.declaring import options_of
from auditor.errors import UsageError
from auditor.journal import Journal
from auditor.journal.keeping import ORIGIN
from auditor.options import COMMANDS, ScanOptions

EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "scale"
GIVEN = ScanOptions(
    model="net.onnx", input_shape=(3, 8, 32, 32), algorithm="FedAvg", momentum=0.5, what_if=False, max_time=90.0,
    defence=("clip:1",), arg=(("depth", 4),), reference=("first:2",),
)  # fmt: skip


def shard(folder: Path, options: ScanOptions = GIVEN, **parts: int) -> Path:
    journal = Journal(folder / "unfinished")
    journal.check()
    for name, value in parts.items():
        journal.write(name, {"made": value})
    write_origin(journal.folder, options)
    return folder


def test_parts_of_all_shards_are_there_with_the_options_of_their_scan(tmp_path):
    folders = [shard(tmp_path / "1", one=1, both=2), shard(tmp_path / "2", two=3, both=2)]
    options = put_together(folders, tmp_path / "report" / "unfinished")
    assert options.as_json() == GIVEN.as_json()
    assert options.as_json() != ScanOptions(model="net.onnx").as_json()
    merged = Journal(tmp_path / "report" / "unfinished")
    assert [merged.read(key)["made"] for key in ("one", "two", "both")] == [1, 3, 2]


def test_the_folder_of_parts_itself_may_be_named(tmp_path):
    folder = shard(tmp_path / "1", one=1) / "unfinished"
    assert put_together([folder], tmp_path / "report").model == "net.onnx"


def test_a_merge_that_fails_leaves_no_empty_folders(tmp_path, monkeypatch):
    shard(tmp_path / "1")
    monkeypatch.chdir(tmp_path)
    failed = CliRunner().invoke(app, ["merge", "1", "--out", "report"])
    assert "there is no file net.onnx" in str(failed.exception)
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda origin: origin.write_text("{"), "is damaged"),
        (lambda origin: origin.unlink(), "holds no parts of a shard"),
        (lambda origin: origin.write_text(origin.read_text().replace("net.onnx", "other.onnx")), "different scans"),
        (lambda origin: origin.write_text(json.dumps({**json.loads(origin.read_text()), "program": "x"})), "version"),
    ],
)
def test_what_is_no_shard_of_the_scan_is_refused(tmp_path, damage, told):
    folders = [shard(tmp_path / "1", one=1), shard(tmp_path / "2", two=2)]
    damage(folders[1] / "unfinished" / ORIGIN)
    with pytest.raises(UsageError, match=told):
        put_together(folders, tmp_path / "report")


def test_commands_of_the_examples_are_ones_with_options_that_there_are():
    seen = set()
    for example in sorted(EXAMPLES.iterdir()):
        text = example.read_text(encoding="utf-8")
        if example.suffix == ".yml":
            assert list(yaml.safe_load_all(text))
        for command, rest in re.findall(r"fl-audit (scan|merge|plan) ([^\n|]*)", text.replace("\\\n", " ")):
            flags = {flag for cls in COMMANDS[command] for o in options_of(cls) for flag in o.flags}
            words = re.findall(r"(?<=\s)-{1,2}[a-z][a-z-]*", rest)
            assert set(words) <= flags, (example, words)
            seen.add((command, "--shard" in words))
    assert {("scan", True), ("merge", False)} <= seen
