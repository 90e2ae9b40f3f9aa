"""Scans that are interrupted and go on: the same results as of one that was left alone, without doing work twice."""

import dataclasses
import faulthandler
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from short_scans import scanning, short

from auditor.attack.matching.least_squares_matching import LeastSquaresMatching
from auditor.journal import Kept, journaling
from auditor.pipeline import ScanOptions, Silent, scan
from auditor.pipeline.workers import Processes, working
from auditor.results.repeatable import without_times

MODELS = Path(__file__).parent.parent / "models_for_scans.py"
OPTIONS = ScanOptions(model=f"{MODELS}:flat", input_shape=(3, 8, 32, 32))
PRESET = dataclasses.replace(short(6, attacks=("least-squares-matching", "least-squares-matching-r1")), diagnose=True)
# Scans of one process: what an earlier one left remembered is not counted again, so that some budgets may differ.
REMEMBERED = 3


class Interrupting(Silent):
    """Is interrupted when so many attacks have begun; what was taken up does not begin."""

    def __init__(self, after: int) -> None:
        self.begun: list[str] = []
        self.after = after

    @contextmanager
    def unit(self, title: str, seconds: float) -> Iterator[Callable[[float], None]]:
        self.begun += [title] if "·" in title and "exposure" not in title else []
        if len(self.begun) > self.after:
            raise KeyboardInterrupt
        yield lambda fraction: None


def results(display: Silent, folder: Path) -> tuple[dict, Kept]:
    with scanning(PRESET, enhanced=0), journaling(folder, "program") as parts:
        return without_times(scan(OPTIONS, display).results), parts


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> tuple[dict, list[str], int, Path]:
    display, folder = Interrupting(after=10**6), tmp_path_factory.mktemp("alone") / "unfinished"
    found, parts = results(display, folder)
    assert parts.taken == 0
    return found, display.begun, parts.added, folder


def test_interrupted_again_and_again_it_comes_to_the_same_results(alone, tmp_path):
    found, begun, parts, _ = alone
    kept_before, folder = 0, tmp_path / "unfinished"
    for after in (len(begun) // 3, len(begun) // 3, 2):
        display = Interrupting(after)
        with pytest.raises(KeyboardInterrupt):
            results(display, folder)
        kept_now = len(list(folder.glob("*.json")))
        assert kept_now > kept_before
        kept_before = kept_now
    again, went_on = results(Silent(), folder)
    assert again == found
    assert went_on.taken >= kept_before - REMEMBERED
    assert parts <= kept_before + went_on.added <= parts + REMEMBERED


def test_a_finished_audit_is_repeated_without_any_attack(alone):
    found, _, parts, folder = alone
    display = Interrupting(after=10**6)
    again, went_on = results(display, folder)
    assert again == found
    assert went_on.added <= REMEMBERED
    assert went_on.taken >= parts - REMEMBERED
    assert len(display.begun) <= REMEMBERED


def in_processes(display: Silent, folder: Path, jobs: int = 2) -> tuple[dict, Kept]:
    with scanning(PRESET, enhanced=0), journaling(folder, "program") as parts:
        processes = Processes(parts, jobs)
        with processes.active(display) as shared, working(processes):
            return without_times(scan(OPTIONS, shared).results), parts


class InCopies:
    """Lets a signal end the process that searches by least squares, unless it is this one; `most` times at most."""

    def __init__(self, number: int, folder: Path, most: int = 1000) -> None:
        self._number, self._folder, self._most = number, folder, most
        self._here, self._whole = os.getpid(), LeastSquaresMatching.invert

    def __call__(self, attack, view, budget, seed):
        ended = len(list(self._folder.glob("ended.*")))
        if os.getpid() != self._here and attack.name == "least-squares-matching" and ended < self._most:
            (self._folder / f"ended.{os.getpid()}").touch()
            faulthandler.disable()  # of pytest: what it would print is no news
            os.kill(os.getpid(), self._number)
        return self._whole(attack, view, budget, seed)


def test_two_processes_come_to_the_same_results_though_one_is_killed_on_its_way(alone, tmp_path, monkeypatch):
    killing = InCopies(signal.SIGKILL, tmp_path, most=1)
    monkeypatch.setattr(LeastSquaresMatching, "invert", lambda *given: killing(*given))
    found, parts = in_processes(Silent(), tmp_path / "unfinished")
    assert len(list(tmp_path.glob("ended.*"))) == 1
    assert found == alone[0]
    assert parts.added == 0


def test_an_attack_that_ends_its_process_costs_itself_alone(alone, tmp_path, monkeypatch):
    crashing = InCopies(signal.SIGSEGV, tmp_path)
    monkeypatch.setattr(LeastSquaresMatching, "invert", lambda *given: crashing(*given))
    found, _ = in_processes(Silent(), tmp_path / "unfinished")
    (told,) = [s for s in found["skipped"] if s["what"] == "least-squares-matching"]
    assert (told["stage"], told["because"]) == ("invert", "failed")
    assert "signal 11, SIGSEGV" in told["reason"]
    others = [f for f in alone[0]["findings"] if f["attack"] != "least-squares-matching"]
    assert [f["attack"] for f in found["findings"]] == [f["attack"] for f in others]
