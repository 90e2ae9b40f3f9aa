"""Options are declared once: every source reads them alike, and what is generated from them is current."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import auditor
from auditor.cli.main import app
from auditor.cli.signatures import help_of
from auditor.declaring import REQUIRED, options_of
from auditor.errors import AuditError, UsageError
from auditor.option_rules import options_from
from auditor.options import COMMANDS, AttackOptions, ClientOptions, ScanOptions
from auditor.options_docs import keywords, table
from auditor.study import read_study

ROOT = Path(__file__).parent.parent
STUDY = """
[study]
title = "Tiny"
clips = ["park_walker", "hand_box"]
seeds = [0]
[preset.fast]
steps = 60
[[model]]
name = "flat"
kind = "raw"
model = "nets.py:flat"
{line}
[[grid]]
references = [0]
[[attacks]]
run = ["linear-input"]
"""
# Name, as in a study file, on the command line, and in Python; and what the line says.
WRONG = [
    ("algorithm", '"banana"', ["--algorithm", "banana"], "banana", "--algorithm banana is unknown; use one of fedsgd"),
    ("bn", '"banana"', ["--bn", "banana"], "banana", "--bn banana is unknown; use one of eval, train"),
    ("momentum", "7.0", ["--momentum", "7.0"], 7.0, "is not a number from 0 to below 1; give e.g. --momentum 0.9"),
    ("batch", '"four"', ["--batch", "four"], "four", "--batch four is not a whole number from 1 to 64"),
    ("batch", "65", ["--batch", "65"], 65, "--batch 65 is not a whole number from 1 to 64"),
    ("batch", "1.5", ["--batch", "1.5"], 1.5, "--batch 1.5 is not a whole number"),
    ("learning_rate", "-1", ["--learning-rate", "-1"], -1, "--learning-rate -1 is not a number above 0"),
    ("learning_rate", "nan", ["--learning-rate", "nan"], float("nan"), "--learning-rate nan is not a number above 0"),
    ("local_epochs", "3", ["--local-epochs", "3"], 3, "--local-epochs describes local training, which fedsgd has not"),
    ("local_epochs", "0", ["--local-epochs", "0"], 0, "--local-epochs 0 is not a whole number from 1 to 1000"),
    ("local_batch", "-1", ["--local-batch", "-1"], -1, "--local-batch -1 is not a whole number of 0 or more"),
    ("layout", '"X"', ["--layout", "X"], "X", "--layout X is unknown; use one of NCTHW"),
    ("dropout", '"maybe"', ["--dropout", "maybe"], "maybe", "--dropout maybe is unknown; use one of off, on"),
    ("temporal_pool", '"x"', ["--temporal-pool", "x"], "x", "--temporal-pool x is unknown"),
    ("labels", '"x"', ["--labels", "x"], "x", "--labels x is unknown; use one of distinct, equal"),
    ("join", '"x"', ["--join", "x"], "x", "--join x is unknown"),
    ("join", '"mean"', ["--join", "mean"], "mean", "--join applies to two-part models only"),
    ("head", '"h.py:h"', ["--head", "h.py:h"], "h.py:h", "MODEL and --extractor or --head were given"),
    ("classes", "0", ["--classes", "0"], 0, "--classes 0 is not a whole number of 1 or more"),
    ("input_shape", '"a"', ["--input-shape", "a"], "a", "--input-shape a is not a shape"),
    ("input_shape", "[3, 0, 8]", ["--input-shape", "3,0,8"], (3, 0, 8), "--input-shape 3,0,8 is not a shape"),
    ("mean", '"grey"', ["--mean", "grey"], "grey", "--mean grey is not a list of numbers"),
    ("range", "[1]", ["--range", "1"], [1], "--range 1 is not 2 numbers"),
    ("loss", '""', ["--loss", ""], "", "--loss is empty"),
    ("arg", '"depth"', ["--arg", "depth"], "depth", "--arg depth is not name=value"),
    ("send_buffers", "true", ["--send-buffers"], True, "--send-buffers has nothing to send with --bn eval"),
]


@pytest.mark.parametrize(("name", "toml", "flags", "value", "says"), WRONG, ids=[f"{w[0]} {w[1]}" for w in WRONG])
def test_a_wrong_value_is_refused_with_one_line_from_every_source(tmp_path, name, toml, flags, value, says):
    ran = CliRunner().invoke(app, ["scan", "nets.py:flat", *flags])
    assert isinstance(ran.exception, UsageError)
    line = str(ran.exception)
    assert says in line
    assert "\n" not in line
    for command in (auditor.load, auditor.scan, auditor.attack):
        if command is auditor.load and name in LOCAL_TO_CLIENTS:
            continue
        with pytest.raises(UsageError) as raised:
            command("nets.py:flat", **{name: value})
        assert str(raised.value) == line
    (tmp_path / "study.toml").write_text(STUDY.format(line=f"{name} = {toml}"), encoding="utf-8")
    with pytest.raises(UsageError) as raised:
        read_study(tmp_path / "study.toml")
    assert str(raised.value) == f"study.toml: [[model]] 1: {line}"


LOCAL_TO_CLIENTS = {o.name for o in options_of(ClientOptions)} - {o.name for o in options_of(ClientOptions.__base__)}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("batchnorm", "bn"),
        ("value_range", "range"),
        ("output", "model_output"),
        ("arguments", "arg"),
        ("rate", "learning_rate"),
        ("momentun", "momentum"),
    ],
)
def test_a_name_that_is_none_is_refused_with_the_one_that_was_meant(tmp_path, old, new):
    line = f"'{old}' is unknown (did you mean {new}?); see docs/options.md"
    with pytest.raises(UsageError) as raised:
        auditor.scan("nets.py:flat", **{old: "banana"})
    assert str(raised.value) == line
    (tmp_path / "study.toml").write_text(STUDY.format(line=f'{old} = "banana"'), encoding="utf-8")
    with pytest.raises(UsageError) as raised:
        read_study(tmp_path / "study.toml")
    assert str(raised.value) == f"study.toml: [[model]] 1: {line}"


def test_what_only_a_scan_takes_is_no_key_of_a_studys_model(tmp_path):
    for name in ("probes", "fail_on", "weights", "trust_model", "seed"):
        (tmp_path / "study.toml").write_text(STUDY.format(line=f'{name} = "x"'), encoding="utf-8")
        with pytest.raises(UsageError, match=f"'{name}' is unknown"):
            read_study(tmp_path / "study.toml")


def test_a_study_refuses_on_the_command_line_with_exit_2(tmp_path):
    (tmp_path / "study.toml").write_text(STUDY.format(line='algorithm = "banana"'), encoding="utf-8")
    ran = CliRunner().invoke(app, ["study", str(tmp_path / "study.toml"), "--plan"])
    assert isinstance(ran.exception, AuditError)
    assert ran.exception.exit_code == 2


def test_fedavg_means_the_same_from_every_source(tmp_path):
    (tmp_path / "study.toml").write_text(STUDY.format(line='algorithm = "fedavg"'), encoding="utf-8")
    (model,) = read_study(tmp_path / "study.toml").models
    given = options_from(ScanOptions, {"model": "nets.py:flat", "algorithm": "fedavg"})
    for options in (model.options, given, options_from(AttackOptions, {"model": "m", "algorithm": "FedAvg"})):
        assert options.algorithm == "FedAvg"
        assert (options.local_epochs, options.local_batch, options.learning_rate, options.momentum) == (5, 0, 0.01, 0.0)


def test_text_toml_and_python_give_the_same_options(tmp_path):
    line = """input_shape = [3, 4, 8, 8]
mean = [0.5, 0.25, 1]
range = [0, 255]
arg = { width = 16, name = "a" }
trainable = ["head*"]
batch = 4
send_buffers = true
bn = "train"
"""
    (tmp_path / "study.toml").write_text(STUDY.format(line=line), encoding="utf-8")
    (tmp_path / "nets.py").write_text("", encoding="utf-8")
    (model,) = read_study(tmp_path / "study.toml").models
    text = {"model": model.options.model, "input_shape": "3x4x8x8", "mean": "0.5,0.25,1", "range": "0,255",
            "arg": ["width=16", "name=a"], "trainable": ["head*"], "batch": "4", "send_buffers": True,
            "bn": "train"}  # fmt: skip
    python = {**text, "input_shape": (3, 4, 8, 8), "mean": (0.5, 0.25, 1), "range": [0, 255],
              "arg": {"width": 16, "name": "a"}, "trainable": "head*", "batch": 4}  # fmt: skip
    expected = options_from(ClientOptions, text).as_json()
    assert expected["arg"] == ["width=16", "name=a"]
    assert options_from(ClientOptions, python).as_json() == expected
    assert model.options.as_json() == expected


def test_results_name_every_declared_option_and_leave_out_what_does_not_apply():
    plain = options_from(ScanOptions, {"model": "m.onnx", "weights": "w.pt"}, command=("fl-audit",)).as_json()
    assert list(plain) == [o.name for o in options_of(ScanOptions)]
    assert (plain["weights"], plain["bn"], plain["local_epochs"]) == ("w.pt", "eval", None)
    assert options_from(ScanOptions, {"model": "m", "algorithm": "fedavg"}).as_json()["local_epochs"] == 5


@pytest.mark.parametrize("command", COMMANDS)
def test_declarations_hold_together(command):
    names = [option.name for cls in COMMANDS[command] for option in options_of(cls)]
    assert len(names) == len(set(names))
    for cls in COMMANDS[command]:
        assert {f.name for f in dataclasses.fields(cls)} - {"command"} == {o.name for o in options_of(cls)}
        for option in options_of(cls):
            assert option.argument or option.flag.startswith("-")
            if not option.argument and option.flags[0] != "-o":
                assert option.flag == f"--{option.name.replace('_', '-')}"
            if option.default is not REQUIRED and option.default not in (None, "", ()):
                assert option.read(option.default) == option.default


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_every_option_with_its_brackets(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("TERM", "dumb")
    shown = CliRunner().invoke(app, [command, "--help"]).output
    for cls in COMMANDS[command]:
        for option in options_of(cls):
            assert help_of(option) in shown
            assert option.argument or all(flag in shown for flag in re.split("[/,]", option.flags[0]))


def test_documentation_and_keywords_are_current():
    assert (ROOT / "docs" / "options.md").read_text(encoding="utf-8") == table()
    assert (ROOT / "auditor" / "keywords.py").read_text(encoding="utf-8") == keywords()


def test_the_declaration_needs_neither_torch_nor_typer():
    script = (
        "import sys, auditor, auditor.options, auditor.option_rules\n"
        "assert not {'torch', 'numpy', 'typer', 'msgspec', 'rich'} & set(sys.modules), sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
