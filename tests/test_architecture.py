"""Rules of the code base that a reader relies on."""

import ast
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "auditor").rglob("*.py"))
STAGES = ("model", "probe", "federated", "attack", "enhance", "exposure", "score", "report")
MOST_FILES, MOST_LINES = 25, 400


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_never_imports_another(stage):
    for path in (ROOT / "auditor" / stage).rglob("*.py"):
        others = {m for m in imports(path) if m.startswith("auditor.")}
        assert not {m for m in others if m.split(".")[1] in {*STAGES, "pipeline", "cli"} - {stage}}, path


def test_only_the_edge_prints():
    for path in SOURCES:
        if path.parent.name == "cli":
            continue
        calls = [n.func for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
        assert not [c for c in calls if isinstance(c, ast.Name) and c.id == "print"], path


def test_every_module_says_in_a_sentence_what_it_is():
    for path in SOURCES:
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_no_module_is_a_drawer():
    assert not [p for p in SOURCES if p.stem in ("utils", "helpers", "manager", "misc", "common")]


def test_the_longest_test_files_are_where_they_are_said_to_be():
    tree = ast.parse((ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"))
    (longest,) = (n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "LONGEST")
    names = ast.literal_eval(longest)
    assert len(names) > 10
    assert not [name for name in names if not (ROOT / "tests" / name).exists()]


def test_no_module_shadows_the_standard_library():
    assert not [p for p in SOURCES if p.stem in sys.stdlib_module_names]


def test_no_two_classes_have_one_name():
    names = Counter(
        node.name
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert not [name for name, count in names.items() if count > 1]


def test_solvers_know_no_attack():
    for path in (ROOT / "auditor" / "solvers").rglob("*.py"):
        allowed = ("auditor.records", "auditor.errors", "auditor.solvers")
        assert not {m for m in imports(path) if m.startswith("auditor") and not m.startswith(allowed)}, path


def test_no_folder_and_no_file_is_too_large_to_read():
    folders = Counter(path.parent for path in SOURCES)
    assert not {str(f): n for f, n in folders.items() if n > MOST_FILES}
    long = {str(p): len(p.read_text(encoding="utf-8").splitlines()) for p in SOURCES}
    assert not {p: n for p, n in long.items() if n > MOST_LINES}
