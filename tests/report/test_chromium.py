"""A real browser opens the report and has nothing to complain of."""

import shutil
import subprocess

import pytest

from auditor.report import write

from .sample import VARIANTS

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
OPTIONS = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --enable-logging=stderr"


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
@pytest.mark.parametrize("variant", ["fail", "hostile"])
def test_no_console_message_and_no_policy_violation(variant, tmp_path):
    path = tmp_path / "report.html"
    write(VARIANTS[variant](), [path])
    profile, picture = f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={tmp_path / 'page.png'}"
    command = [CHROMIUM, *OPTIONS.split(), profile, picture, "--window-size=1280,2000", path.as_uri()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (tmp_path / "page.png").stat().st_size > 20_000
    assert "CONSOLE" not in ran.stderr
    assert "Content Security Policy" not in ran.stderr
