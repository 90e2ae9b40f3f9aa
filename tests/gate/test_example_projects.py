"""The projects of examples/ci: their files are read, their networks train, and their workflows use what there is."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from auditor.configuration.files import named_configuration
from auditor.configuration.merge import configurable
from auditor.gate.waivers import read_waivers

ROOT = Path(__file__).parents[2]
PROJECTS = sorted(p for p in (ROOT / "examples" / "ci").iterdir() if p.is_dir())


@pytest.fixture(params=PROJECTS, ids=lambda p: p.name)
def project(request):
    return request.param


def test_there_are_two():
    assert [p.name for p in PROJECTS] == ["flower", "pytorch"]


def test_configuration_and_waivers_are_read(project):
    held = tomllib.loads((project / "fl-audit.toml").read_text(encoding="utf-8"))
    assert set(held) <= set(configurable())
    assert named_configuration(project / "fl-audit.toml").path == project / "fl-audit.toml"
    (waiver,) = read_waivers(project / "fl-audit-waivers.toml")
    assert waiver.rule == "label-inference"


def test_the_workflow_audits_what_it_exports_with_inputs_that_there_are(project):
    workflow = yaml.safe_load((project / ".github" / "workflows" / "audit.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["audit"]["steps"]
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    (audit,) = [s for s in steps if s.get("uses", "").startswith("OWNER/fl-audit")]
    assert set(audit["with"]) <= set(action["inputs"])
    commands = [s["run"] for s in steps if "run" in s]
    assert "python export.py" in commands
    assert steps.index(audit) > [s.get("run") for s in steps].index("python export.py")
    model = tomllib.loads((project / "fl-audit.toml").read_text(encoding="utf-8"))["model"]
    assert f'"{model}"' in (project / "export.py").read_text(encoding="utf-8")


def test_what_the_readme_tells_to_change_is_in_the_network(project):
    readme = (project / "README.md").read_text(encoding="utf-8")
    names = [line.partition(" = ")[0] for line in readme.replace("`", "\n").splitlines() if " = " in line]
    network = ast.parse((project / "net.py").read_text(encoding="utf-8"))
    targets = [t for node in network.body if isinstance(node, ast.Assign) for t in node.targets]
    assigned = {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    assert names
    assert set(names) <= assigned


def test_the_plain_client_sends_a_gradient_for_every_parameter():
    project = next(p for p in PROJECTS if p.name == "pytorch")
    done = subprocess.run([sys.executable, "train.py"], cwd=project, capture_output=True, text=True, check=True)
    assert done.stdout == "sends 4298 numbers of 6 tensors\n"


def test_flowers_client_is_one_of_the_released_interface():
    client = pytest.importorskip("flwr.clientapp")
    project = next(p for p in PROJECTS if p.name == "flower")
    line = "import client; assert type(client.app).__name__ == 'ClientApp'; client.clips_of(1)"
    subprocess.run([sys.executable, "-c", line], cwd=project, check=True)
    assert client.ClientApp
