"""The wheel carries all it needs and works from another folder."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODEL = f"{ROOT / 'tests' / 'gate' / 'story_nets.py'}:transformer"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--no-deps",
            "--no-build-isolation",
            "--quiet",
            "-w",
            str(out),
            str(ROOT),
        ],
        check=True,
        capture_output=True,
    )
    return next(out.glob("fl_audit-*.whl"))


def test_it_ships_probes_templates_weights_and_notices(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in (
        "auditor/_shipped/probes/park_walker.npz",
        "auditor/_shipped/probes/SOURCES.md",
        "auditor/_shipped/report_templates/report.html.j2",
        "auditor/enhance/weights/dat_light_x2.safetensors",
    ):
        assert any(n.startswith(wanted.rsplit(".", 1)[0]) for n in names), wanted
    assert any(n.endswith("licenses/LICENSE") for n in names)
    assert any(n.endswith("licenses/NOTICE") for n in names)
    assert not [n for n in names if n.startswith(("tests/", "examples/"))]


@pytest.mark.slow
def test_it_scans_from_another_folder(wheel, tmp_path):
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", str(site), str(wheel)],
        check=True,
        capture_output=True,
    )
    script = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "import auditor, dataclasses\n"
        f"assert auditor.__file__.startswith({str(site)!r}), auditor.__file__\n"
        "from auditor.attack import PRESETS\n"
        # Closed forms alone: what a wheel could lack is what every scan reads.
        "fast = PRESETS['fast']\n"
        "closed = tuple(a for a in fast.attacks if a.closed_form)\n"
        "PRESETS['fast'] = dataclasses.replace(fast, attacks=closed, probes=1, seconds=600.0)\n"
        f"sys.argv = ['fl-audit', 'scan', {MODEL!r}, '--arg', 'learned=true', '--input-shape', '3,4,16,16']\n"
        "from auditor.cli.main import main\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "FAIL" in done.stdout
    for name in ("results.json", "report.html", "report.pdf"):
        assert (tmp_path / "fl-audit-report" / name).stat().st_size > 10_000
    finding = json.loads((tmp_path / "fl-audit-report" / "results.json").read_text())["findings"][0]
    enhanced = finding["results"]
    assert finding["attack"] == "patch-embedding"
    assert any(made["method"] == "DAT-light" for result in enhanced for made in result["enhanced"])
