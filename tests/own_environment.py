"""Programs that use packages which have no place in the project's own environment."""

import os
import subprocess
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class OwnEnvironment:
    """An environment of its own beside the project's, whose torch and numpy it sees behind its own packages."""

    python: Path

    def run(self, folder: Path, program: str) -> None:
        """Run a program in a folder; `examples/` can be imported."""
        path = os.pathsep.join([str(folder), str(ROOT / "examples")])
        ran = subprocess.run(
            [self.python, "-c", program],
            cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
            timeout=300,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr[-2000:]


def own_environment(folder: Path, *installs: tuple[str, ...]) -> OwnEnvironment:
    """Return an environment after these installations, each the words behind `pip install`; skip where one fails."""
    place = folder / "environment"
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    for words in installs:
        done = subprocess.run(
            [python, "-m", "pip", "install", "-q", *words], capture_output=True, text=True, check=False, timeout=1800
        )
        if done.returncode:
            pytest.skip(f"{words[0]} cannot be installed here: {done.stderr.strip().splitlines()[-1][:200]}")
    inside = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    # Behind the packages of the environment itself.
    Path(inside, "torch_of_the_tests.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return OwnEnvironment(python)
