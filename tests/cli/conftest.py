"""The command line in this process."""

import signal
import sys

import pytest

from auditor.cli import main as cli


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run `fl-audit ARGS` in this process, in an empty folder; return code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}

    def call(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fl-audit", *map(str, args)])
        with pytest.raises(SystemExit) as out:
            cli.main()
        shown = capsys.readouterr()
        return int(out.value.code or 0), shown.out, shown.err

    yield call
    for number, handler in before.items():
        signal.signal(number, handler)
