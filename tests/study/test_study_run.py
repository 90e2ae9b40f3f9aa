"""A whole study on tiny networks: run, interrupted, gone on with, and the same in the end."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conformity import conforms
from test_study_plan import FILE
from typer.testing import CliRunner

from auditor.cli.main import app
from auditor.results.reading import check_study

SMALL = FILE.replace("seeds = [0, 1]", "seeds = [0]").replace("null_seeds = 2", "null_seeds = 1")
ROOT = Path(__file__).parents[2]


def command(file: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "auditor", "study", str(file), "--out", str(out), "--device", "cpu", *more]


def heeding_interrupts() -> None:
    """What runs in a shell's background ignores SIGINT, and hands that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def finished(out: Path) -> int:
    return len(list((out / "units").glob("*.json")))


def without_times(out: Path) -> dict:
    found = json.loads((out / "study.json").read_text())
    del found["times"], found["tool"]["command"]
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    file = folder / "tiny.toml"
    file.write_text(SMALL, encoding="utf-8")
    ran = subprocess.run(
        command(file, folder / "whole", "--jobs", "2"), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return folder, ran


def test_a_linear_layer_on_pixels_leaks_and_the_claim_says_so(whole):
    folder, ran = whole
    results = json.loads((folder / "whole" / "study.json").read_text())
    check_study(results)
    conforms(results, "study")
    flat = next(c for c in results["cells"] if (c["model"], c["weights"], c["references"]) == ("flat", "fresh", 0))
    assert flat["attacks"] == ["linear-input"]
    assert flat["measures"]["psnr"]["mean"] > 60.0
    assert flat["recall"]["hits"] == 3
    assert flat["null"]["recall"]["hits"] == 0
    assert flat["null"]["gain"] < 0.0
    assert flat["measures"]["enhanced"]["mean"] > 0.0
    (claim,) = results["claims"]
    assert claim["effect"]["seeds"] == 1
    assert set(claim["effect"]["clips"]) == {"park_walker", "hand_box", "city_night"}
    assert claim["decision"] in ran.stdout.lower()
    assert results["missing"] == {"left_out": 0, "failures": [], "units": 0, "of": len(results["runs"])}
    trained = next(m for m in results["models"] if m["name"] == "flat")
    assert trained["training_accuracy"] > 3 / 7


def test_everything_is_written(whole):
    folder, _ = whole
    out = folder / "whole"
    for name in ("study.json", "study.html", "study.pdf", "study.md", "tables/runs.csv", "tables/conditions.csv",
                 "tables/claims.csv", "figures/lead.svg", "figures/claim-leak.svg"):  # fmt: skip
        assert (out / name).stat().st_size > 100, name
    assert "<script" not in (out / "study.html").read_text()
    assert not list(out.rglob("*.part"))


@pytest.mark.slow
def test_interrupted_anywhere_it_goes_on_to_the_same_results(whole):
    folder, _ = whole
    out = folder / "interrupted"
    for wanted, how in ((0, signal.SIGINT), (9, signal.SIGKILL)):
        running = subprocess.Popen(
            command(folder / "tiny.toml", out, "--jobs", "1"),
            cwd=ROOT,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=heeding_interrupts,
        )
        begun = time.monotonic()
        while (
            (finished(out) < wanted or not (out / "units").exists())
            and running.poll() is None
            and time.monotonic() - begun < 120
        ):
            time.sleep(0.02)
        if how is signal.SIGINT:
            time.sleep(1.0)  # long enough for a process to have begun, too short for it to have imported torch
        os.killpg(running.pid, how)
        told = running.communicate(timeout=60)[1].decode()
        if how is signal.SIGINT:
            assert running.returncode == 130
            assert "the same command goes on from there" in told
            assert "Traceback" not in told
            assert told.strip().count("\n") == 0
            assert not (out / "study.json").exists()
    assert 1 <= finished(out) < finished(folder / "whole")
    again = subprocess.run(
        command(folder / "tiny.toml", out, "--jobs", "1"), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert without_times(out) == without_times(folder / "whole")


@pytest.mark.slow
def test_what_is_done_is_not_done_again_and_what_is_damaged_is(whole):
    folder, _ = whole
    out = folder / "whole"
    before = without_times(out)
    victim = next(p for p in sorted((out / "units").glob("*.json")) if json.loads(p.read_text()).get("role") == "own")
    kept = {p: p.stat().st_mtime_ns for p in (out / "units").glob("*.json") if p != victim}
    victim.write_text("{")
    again = command(folder / "tiny.toml", out, "--jobs", "1")
    ran = subprocess.run(again, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert without_times(out) == before


@pytest.mark.slow
def test_out_of_time_is_told_and_ends_with_four(whole):
    folder, _ = whole
    ran = subprocess.run(
        command(folder / "tiny.toml", folder / "late", "--max-time", "1s", "--jobs", "1"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 4
    results = json.loads((folder / "late" / "study.json").read_text())
    assert 0 < results["missing"]["units"] <= results["missing"]["of"]
    assert results["claims"][0]["decision"] == "undecided"
    assert "run the same command again" in ran.stdout


@pytest.mark.slow
def test_a_unit_that_breaks_is_counted_and_shown(whole, tmp_path):
    file = tmp_path / "broken.toml"
    file.write_text(SMALL.replace(":train", ":broken"), encoding="utf-8")
    out = tmp_path / "out"
    # Units of fresh weights do not depend on the training program: they are taken up.
    shutil.copytree(whole[0] / "whole" / "units", out / "units")
    ran = subprocess.run(command(file, out, "--jobs", "1"), cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 4
    results = json.loads((out / "study.json").read_text())
    assert any("no such luck" in f["reason"] for f in results["missing"]["failures"])
    assert {r["weights"] for r in results["runs"]} == {"fresh"}


def test_a_study_is_rendered_again_from_its_results(whole, tmp_path):
    folder, _ = whole
    ran = CliRunner().invoke(app, ["report", str(folder / "whole" / "study.json"), "--out", str(tmp_path)])
    assert ran.exit_code == 0, ran.output
    assert (tmp_path / "study.html").read_bytes() == (folder / "whole" / "study.html").read_bytes()
    assert (tmp_path / "study.pdf").read_bytes() == (folder / "whole" / "study.pdf").read_bytes()


def test_the_plan_runs_nothing(whole, tmp_path):
    folder, _ = whole
    ran = CliRunner().invoke(app, ["study", str(folder / "tiny.toml"), "--plan", "--out", str(tmp_path / "none")])
    assert ran.exit_code == 0
    assert "4 cells, 3 clips, 1 seeds" in ran.output
    assert not (tmp_path / "none").exists()
