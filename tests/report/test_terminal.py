"""One screen for one audit."""

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from auditor.report import terminal_summary
from auditor.report.plain import plain

from .sample import SENTENCES, VARIANTS

PATHS = [f"fl-audit-report/{name}" for name in ("results.json", "report.html", "report.pdf")]


def shown(variant, width=80, encoding="utf-8", **options):
    stored = io.BytesIO()
    file = io.TextIOWrapper(stored, encoding=encoding, write_through=True)
    terminal_summary(plain(VARIANTS[variant]()), Console(file=file, width=width, **options), PATHS)
    return stored.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_it_fits_one_screen(variant, width):
    lines = shown(variant, width).splitlines()
    assert len(lines) <= 30
    assert max(cell_len(line) for line in lines) <= min(width, 100)


def test_verdict_comes_first_and_files_last():
    lines = shown("fail").splitlines()
    assert "FAIL" in lines[0]
    assert "leakage demonstrated" in lines[0]
    assert SENTENCES["FAIL"][:40] in lines[2]
    assert "report.pdf" in lines[-1]


def test_no_colour_means_no_escape_codes():
    assert "\x1b" not in shown("hostile", no_color=True)
    assert "\x1b[" in shown("fail", force_terminal=True, color_system="truecolor")


def test_an_ascii_terminal_is_enough(variant):
    assert shown(variant, encoding="ascii").isascii()


def test_hostile_names_do_not_speak_to_the_terminal():
    results = plain(VARIANTS["hostile"]())
    results["verdict"]["sentence"] = "[red]markup[/red] \x1b[31mcolour \u202ebidi"
    stored = io.StringIO()
    terminal_summary(results, Console(file=stored, width=80, force_terminal=True, color_system="truecolor"))
    assert "[red]markup[/red] [31mcolour bidi" in stored.getvalue()


def test_a_failed_control_is_named():
    assert "3 passed, 1 failed, 1 not run: closed form on a known" in shown("inconclusive")
