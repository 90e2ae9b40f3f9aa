"""The recipes of CONTRIBUTING.md are patches: each applies to a copy of the tree, touches few files, and works."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COPIED = ("auditor", "probes", "report_templates", "tests", "docs", "examples", "pyproject.toml")
# How many files each kind of thing may take; tests, templates and documentation aside.
# What this recipe adds is tried each time; trying the others takes ten seconds each.
RUN = ("an option",)
MOST = {"an option": 4, "an attack": 2, "a metric": 3, "an output format": 2, "a defence": 2}
ASIDE = ("tests/", "docs/", "report_templates/", "README.md", "CHANGELOG.md", "CONTRIBUTING.md")


@dataclass(frozen=True)
class Recipe:
    """A section of CONTRIBUTING.md: the patch, and the command that shows that it works."""

    thing: str
    patch: str
    command: str

    @property
    def files(self) -> set[str]:
        """What the patch touches, but for tests, templates and documentation."""
        touched = set(re.findall(r"^\+\+\+ b/(\S+)", self.patch, flags=re.M))
        return {f for f in touched if not f.startswith(ASIDE)}


def recipes() -> list[Recipe]:
    """Return the recipes, in the order of the page."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = []
    for section in re.split(r"^### ", text, flags=re.M)[1:]:
        patch = re.search(r"^```diff\n(.*?)^```$", section, flags=re.S | re.M)
        command = re.search(r"^```sh\n(.*?)^```$", section, flags=re.S | re.M)
        assert patch, section.splitlines()[0]
        assert command, section.splitlines()[0]
        thing = section.splitlines()[0].strip().removeprefix("Add ")
        found.append(Recipe(thing=thing, patch=patch[1], command=command[1]))
    return found


def test_there_is_a_recipe_for_each_kind_of_thing():
    assert {r.thing for r in recipes()} == set(MOST)


def patched(recipe: Recipe, folder: Path) -> None:
    """Copy what recipes touch into a folder, and apply the recipe there."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "corpus"))
        else:
            shutil.copy(source, folder / name)
    patch = folder / "recipe.patch"
    patch.write_text(recipe.patch, encoding="utf-8")
    applied = subprocess.run(["git", "apply", str(patch)], cwd=folder, capture_output=True, text=True, check=False)
    assert applied.returncode == 0, applied.stderr


@pytest.mark.parametrize("recipe", [r for r in recipes() if r.thing not in RUN], ids=lambda r: r.thing)
def test_a_recipe_takes_few_files_and_still_applies(recipe, tmp_path):
    assert 0 < len(recipe.files) <= MOST[recipe.thing]
    patched(recipe, tmp_path)


@pytest.mark.parametrize(
    "recipe",
    [r if r.thing in RUN else pytest.param(r, marks=pytest.mark.slow) for r in recipes()],
    ids=lambda r: r.thing,
)
def test_a_recipe_works(recipe, tmp_path):
    assert 0 < len(recipe.files) <= MOST[recipe.thing]
    patched(recipe, tmp_path)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        ["bash", "-euc", recipe.command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
