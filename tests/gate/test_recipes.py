"""Recipes run as written: their options exist, codes go through, and inputs are never run."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from auditor.declaring import options_of
from auditor.options import COMMANDS
from auditor.output_formats import suffix_of, to_stdout

ROOT = Path(__file__).parents[2]
RECIPES = (
    ROOT / "action.yml",
    *sorted(p for p in (ROOT / "examples" / "ci").rglob("*") if p.suffix != ".py" and p.is_file()),
)
STUB = """#!/usr/bin/env bash
printf '%s\\n' "$@" >> "$LOG"; echo -- >> "$LOG"
if [ "$1" = scan ]; then
  mkdir -p report; echo '{}' > report/results.json; echo '# audit' > report/audit.md; exit "$CODE"
fi
echo '::error title=x::y'
"""


def flags_of(command):
    return {flag for cls in COMMANDS[command] for o in options_of(cls) for f in o.flags for flag in f.split("/")}


def test_every_command_of_a_recipe_is_one_with_options_that_there_are():
    seen = 0
    for recipe in RECIPES:
        text = recipe.read_text(encoding="utf-8").replace("\\\n", " ")
        for command, rest in re.findall(r"fl-audit (scan|report|gate|diff) ([^\n|]*)", text):
            words = [w.partition("=")[0] for w in shlex.split(rest, comments=True) if w.startswith("-")]
            unknown = [w for w in words if w not in flags_of(command) and not to_stdout(Path(w))]
            assert not unknown, (recipe, unknown)
            seen += 1
    assert seen >= 5


def test_yaml_is_yaml_and_outputs_have_formats():
    for recipe in RECIPES:
        if recipe.suffix == ".yml":
            assert yaml.safe_load(recipe.read_text(encoding="utf-8"))
        for name in re.findall(r'-o "?(?:\$FOLDER|[\w-]+)/([\w.]+)', recipe.read_text(encoding="utf-8")):
            assert suffix_of(Path(name)), name


def step(name):
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    return next(s for s in action["runs"]["steps"] if s["name"] == name)


@pytest.fixture
def play(tmp_path):
    """Run the action's step with inputs, and a stub in place of fl-audit; return the code and every argument."""
    (tmp_path / "bin").mkdir()
    stub = tmp_path / "bin" / "fl-audit"
    stub.write_text(STUB, encoding="utf-8")
    stub.chmod(0o755)

    def call(code=0, **inputs):
        given = dict.fromkeys(("MODEL", "BASELINE", "FAIL_ON", "INCONCLUSIVE", "ARGUMENTS"), "") | {"FOLDER": "report"}
        environment = {
            **given, **inputs, "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "CODE": str(code),
            "LOG": str(tmp_path / "log"), "GITHUB_OUTPUT": str(tmp_path / "output"),
            "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        }  # fmt: skip
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step("Audit")["run"]],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        first = (tmp_path / "log").read_text(encoding="utf-8").split("--\n")[0].splitlines()
        return done.returncode, first, done.stdout

    return call


@pytest.mark.parametrize("code", [0, 1, 4, 5])
def test_the_actions_code_is_the_audits(play, tmp_path, code):
    got, arguments, out = play(code, MODEL="m.onnx", BASELINE="b.json", FAIL_ON="never", INCONCLUSIVE="new")
    assert got == code
    assert arguments[0] == "scan"
    assert {"m.onnx", "--no-reuse", "--fail-on-regression", "b.json", "never", "new"} <= set(arguments)
    assert f"code={code}" in (tmp_path / "output").read_text(encoding="utf-8")
    assert (tmp_path / "summary").read_text(encoding="utf-8") == "# audit\n"
    assert "::error" in out


def test_hostile_inputs_are_arguments_and_nothing_else(play, tmp_path):
    _, arguments, _ = play(
        MODEL='"; touch owned; #.onnx', BASELINE="$(touch owned)", ARGUMENTS="--preset=`touch owned`\n"
    )
    assert not (tmp_path / "owned").exists()
    assert '"; touch owned; #.onnx' in arguments
    assert "$(touch owned)" in arguments
    assert "--preset=`touch owned`" in arguments


def test_the_actions_scripts_hold_no_expression():
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    assert not [s for s in action["runs"]["steps"] if "${{" in s.get("run", "")]
