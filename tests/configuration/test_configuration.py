"""Options from files and variables: which counts, what is refused, and that nothing above a repository is read."""

import json
import os
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from auditor.cli.main import app
from auditor.configuration.files import find_configuration, named_configuration
from auditor.configuration.merge import configurable, layered
from auditor.configuration.written import commented
from auditor.errors import UsageError
from auditor.option_rules import options_from
from auditor.options import COMMANDS, ScanOptions


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """An empty repository; the current folder is one inside."""
    (tmp_path / "repository" / ".git").mkdir(parents=True)
    inside = tmp_path / "repository" / "a" / "b"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    for variable in [name for name in os.environ if name.startswith("FL_AUDIT_")]:
        monkeypatch.delenv(variable)
    return tmp_path / "repository"


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def values(command="scan", given=None, environment=None):
    found = layered(command, given or {}, environment or {}, find_configuration(Path.cwd()))
    return {name: held.value for name, held in found.items()}


def test_the_nearest_file_counts_and_its_own_before_pyproject(repository):
    assert find_configuration(Path.cwd()) is None
    write(repository / "fl-audit.toml", "batch = 2\n")
    assert values() == {"batch": 2}
    write(repository / "a" / "pyproject.toml", "[tool.fl-audit]\nbatch = 3\n")
    assert values() == {"batch": 3}
    write(repository / "a" / "fl-audit.toml", "batch = 4\n")
    assert values() == {"batch": 4}
    write(repository / "a" / "b" / "pyproject.toml", "[tool.other]\nx = 1\n")
    assert values() == {"batch": 4}


def test_nothing_above_the_repository_is_read_and_nothing_above_here_outside_one(repository, tmp_path, monkeypatch):
    write(tmp_path / "fl-audit.toml", "batch = 9\n")
    assert find_configuration(Path.cwd()) is None
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert find_configuration(Path.cwd()) is None
    monkeypatch.chdir(tmp_path)
    assert values() == {"batch": 9}


def test_the_command_line_comes_before_variables_and_these_before_the_file(repository):
    write(repository / "fl-audit.toml", 'batch = 2\nseed = 5\nfail_on = "low"\n')
    environment = {"FL_AUDIT_SEED": "6", "FL_AUDIT_FAIL_ON": "medium", "PATH": "/bin", "FL_AUDIT_DEBUG": "1"}
    found = layered("scan", {"fail_on": "never", "trainable": []}, environment, find_configuration(Path.cwd()))
    told = {name: (held.value, held.origin) for name, held in found.items()}
    assert told["fail_on"] == ("never", "command line")
    assert told["seed"] == ("6", "FL_AUDIT_SEED")
    assert told["batch"] == (2, "../../fl-audit.toml")
    assert set(told) == {"fail_on", "seed", "batch"}


def test_a_model_on_the_command_line_takes_nothing_of_the_files_model(repository):
    lines = 'extractor = "e.onnx"\nhead = "h.onnx"\njoin = "mean"\nbatch = 2\n'
    write(repository / "fl-audit.toml", lines)
    assert values(given={"model": "m.onnx"}) == {"model": "m.onnx", "batch": 2}
    write(repository / "fl-audit.toml", 'algorithm = "fedavg"\nlocal_epochs = 2\n')
    assert values(given={"algorithm": "fedsgd"}) == {"algorithm": "fedsgd"}


def test_paths_are_relative_to_the_file(repository):
    (repository / "nets.py").write_text("", encoding="utf-8")
    lines = 'model = "nets.py:net"\nweights = "w.pt"\nprobes = ["clips"]\nreference = ["first:2"]\nsr = ["/net.pth"]\n'
    (repository / "clips").mkdir()
    write(repository / "fl-audit.toml", lines)
    assert values() == {
        "model": "../../nets.py:net",
        "weights": "../../w.pt",
        "probes": ["../../clips"],
        "reference": ["first:2"],
        "sr": [os.path.relpath("/net.pth")],
    }
    write(repository / "fl-audit.toml", 'model = "torchvision:r3d_18"\n')
    assert values() == {"model": "torchvision:r3d_18"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('fail_onn = "high"', "../../fl-audit.toml: 'fail_onn' is unknown (did you mean fail_on?)"),
        ('fail-on = "high"', "'fail-on' is unknown (did you mean fail_on?)"),
        ('batchnorm = "eval"', "'batchnorm' is unknown (did you mean bn?)"),
        ("json = true", "'json' is unknown"),
        ('batch = "four"', "../../fl-audit.toml: --batch four is not a whole number from 1 to 64; give e.g. --batch 2"),
        ("faces = 1", "--faces 1 is neither true nor false"),
        ('[level]\nlabels = "off"', "there is no rule 'labels'"),
        ('[level]\nlabel-inference = "odd"', "names no level"),
        ("batch = ", "is no TOML"),
        ('"\\u001b[31m" = 1', "'[31m' is unknown"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line_that_names_it(repository, text, says):
    write(repository / "fl-audit.toml", text)
    with pytest.raises(UsageError) as raised:
        values()
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("FL_AUDIT_FAIL_ONN", "low", "the variable FL_AUDIT_FAIL_ONN is unknown (did you mean FL_AUDIT_FAIL_ON?)"),
        ("FL_AUDIT_BATCH", "65", "FL_AUDIT_BATCH: --batch 65 is not a whole number from 1 to 64"),
        ("FL_AUDIT_FACES", "yes", "FL_AUDIT_FACES: --faces yes is neither true nor false"),
    ],
)
def test_what_is_wrong_in_a_variable_is_one_line_that_names_it(repository, name, value, says):
    with pytest.raises(UsageError) as raised:
        values(environment={name: value})
    assert says in str(raised.value)


def test_variables_are_read_as_the_command_line_or_as_json(repository):
    environment = {
        "FL_AUDIT_FACES": "true", "FL_AUDIT_WHAT_IF": "0", "FL_AUDIT_TRAINABLE": '["head*", "norm"]',
        "FL_AUDIT_ARG": "depth=4", "FL_AUDIT_MAX_TIME": "5m", "FL_AUDIT_MODEL": "m.onnx",
    }  # fmt: skip
    made = options_from(ScanOptions, values(environment=environment))
    assert (made.faces, made.what_if, made.trainable) == (True, False, ("head*", "norm"))
    assert (made.arg, made.max_time) == ((("depth", 4),), 300.0)


def test_each_command_takes_what_means_the_same_there(repository):
    lines = 'batch = 2\nmax_time = "5m"\nout = "here"\nfail_on = "low"\nfail_on_regression = true\n'
    write(repository / "fl-audit.toml", lines)
    assert set(values("scan")) == {"batch", "max_time", "out", "fail_on", "fail_on_regression"}
    assert set(values("attack")) == {"batch"}
    assert set(values("inspect")) == {"batch"}
    assert set(values("gate")) == {"fail_on", "fail_on_regression"}


def test_a_named_file_is_read_and_a_pyproject_without_the_table_refused(repository):
    named = write(repository / "other.toml", "batch = 7\n")
    assert named_configuration(named).values == {"batch": 7}
    with pytest.raises(UsageError, match=r"has no table \[tool\.fl-audit\]"):
        named_configuration(write(repository / "pyproject.toml", "[tool.x]\n"))
    with pytest.raises(UsageError, match=r"tool\.fl-audit is no table"):
        named_configuration(write(repository / "pyproject.toml", "[tool]\nfl-audit = 3\n"))


def test_the_commented_file_is_toml_that_says_the_model_and_nothing_else(repository):
    assert tomllib.loads(commented("net.onnx")) == {"model": "net.onnx"}
    assert tomllib.loads(commented('a"\\\n.onnx')) == {"model": 'a"\\\n.onnx'}
    assert tomllib.loads(commented("")) == {}


def test_every_option_of_the_commented_file_may_be_uncommented(repository):
    known = configurable()
    lines = [line.removeprefix("# ") for line in commented("").splitlines() if line.partition(" = ")[0][2:] in known]
    assert [line.partition(" = ")[0] for line in lines] == sorted(known, key=[*map(_name, lines)].index)
    for line in lines:
        ((name, value),) = tomllib.loads(line).items()
        if name in ("probes", "reference", "replay", "baseline", "waivers", "sign_key"):
            continue  # these have to exist
        known[name].read(value)


def _name(line):
    return line.partition(" = ")[0]


def run(*args):
    return CliRunner().invoke(app, list(args), standalone_mode=False)


def test_config_prints_every_value_with_its_origin(repository, monkeypatch):
    write(repository / "fl-audit.toml", 'batch = 2\n[level]\nlabel-inference = "off"\n')
    monkeypatch.setenv("FL_AUDIT_SEED", "3")
    shown = run("config").output.splitlines()
    assert shown[0] == "# ../../fl-audit.toml"
    rows = {line.split()[0]: line.split(maxsplit=1)[1] for line in shown[1:]}
    assert set(rows) == set(configurable())
    assert rows["batch"].split() == ["2", "../../fl-audit.toml"]
    assert rows["seed"].split() == ['"3"', "FL_AUDIT_SEED"]
    assert rows["fail_on"].split() == ['"high"', "default"]
    assert rows["level"].startswith('{ label-inference = "off" }')
    told = json.loads(run("config", "--json").output)
    assert told["batch"] == {"value": "2", "origin": "../../fl-audit.toml"}


def test_init_writes_once(repository):
    assert "wrote fl-audit.toml" in run("init").output
    assert "exists already; add --force" in str(run("init").exception)
    assert run("init", "--force").exception is None
    assert "is a folder" in str(run("init", "-o", ".").exception)


def test_a_command_reads_its_configuration(repository):
    stored = Path(__file__).parents[1] / "gate" / "stored" / "flat.json"
    assert run("gate", str(stored)).return_value == 1
    write(repository / "fl-audit.toml", 'fail_on = "critical"\n')
    assert run("gate", str(stored)).return_value == 0
    assert run("gate", str(stored), "--fail-on", "low").return_value == 1
    other = write(repository / "strict.toml", 'fail_on = "low"\n')
    assert run("gate", str(stored), "--config", str(other)).return_value == 1
    write(repository / "fl-audit.toml", "fail_onn = 1\n")
    assert "did you mean fail_on?" in str(run("gate", str(stored)).exception)


def test_every_declared_option_of_a_scan_can_be_configured_or_belongs_to_one_call():
    names = {o for cls in COMMANDS["scan"] for o in cls.__dataclass_fields__} - {"command"}
    assert names - set(configurable()) == {"json", "quiet", "config", "shard"}
