"""Scans whose parts are made by several processes, and by shards: the same results, whoever ends on the way."""

import dataclasses
import faulthandler
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from short_scans import scanning, short

from auditor.attack import Preset
from auditor.attack.matching.least_squares_matching import LeastSquaresMatching
from auditor.cli.scale.shard import put_together, write_origin
from auditor.journal import journaling
from auditor.pipeline import ScanOptions, Silent, scan
from auditor.pipeline.scored import scoring
from auditor.pipeline.workers import Processes, Shard, ShareMade, working
from auditor.results.repeatable import without_times
from auditor.score import score_clip

OPTIONS = ScanOptions(model=f"{Path(__file__).parent.parent / 'models_for_scans.py'}:tiny", input_shape=(3, 4, 16, 16))
# Least squares needs 20 products of two steps each.
PRESET = short(50, attacks=("least-squares-matching", "least-squares-matching-r1"))


class Noting(Silent):
    """Notes which attacks begin."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    @contextmanager
    def unit(self, title: str, seconds: float) -> Iterator[Callable[[float], None]]:
        self.begun += [title] if "·" in title else []
        yield lambda fraction: None


def results(
    display: Silent,
    folder: Path,
    shard: tuple[int, int] | None = None,
    preset: Preset = PRESET,
    enhanced: int = 0,
    controls_anew: bool = False,
) -> dict:
    with scanning(preset, enhanced, controls_anew), journaling(folder, "program") as parts:
        processes = Processes(parts, jobs=2)
        workers = processes if shard is None else Shard(parts, *shard, processes)
        with processes.active(display) as shared, working(workers):
            return without_times(scan(OPTIONS, shared).results)


@pytest.fixture(scope="module")
def alone() -> dict:
    with scanning(PRESET, enhanced=0):
        return without_times(scan(OPTIONS, Silent()).results)


@pytest.mark.slow
def test_variants_layers_and_a_manipulating_server_are_the_same_from_two_processes(tmp_path):
    whole = dataclasses.replace(PRESET, what_if=True, diagnose=True, seconds=120.0)
    with scanning(whole, enhanced=1, controls_anew=True):
        alone = without_times(scan(OPTIONS, Silent()).results)
    assert alone["what_if"]
    assert alone["layer_attacks"]
    assert alone["malicious_server"]
    assert results(Silent(), tmp_path / "unfinished", preset=whole, enhanced=1, controls_anew=True) == alone


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


def test_shards_of_two_processes_come_to_the_same_results_though_one_is_killed(alone, tmp_path, monkeypatch):
    killing = InCopies(signal.SIGKILL, tmp_path, most=1)
    monkeypatch.setattr(LeastSquaresMatching, "invert", lambda *given: killing(*given))
    folders = [tmp_path / "first", tmp_path / "second"]
    for place, folder in enumerate(folders, 1):
        with pytest.raises(ShareMade) as made:
            results(Silent(), folder, (place, 2), controls_anew=True)
        assert 0 < made.value.here < made.value.all
        write_origin(folder, OPTIONS)
    assert len(list(tmp_path.glob("ended.*"))) == 1
    apart = [{path.name for path in folder.glob("*.json")} for folder in folders]
    assert apart[0] - apart[1]
    assert apart[1] - apart[0]
    assert put_together(folders, tmp_path / "unfinished").input_shape == OPTIONS.input_shape
    display = Noting()
    assert results(display, tmp_path / "unfinished", controls_anew=True) == alone
    assert {f["attack"] for f in alone["findings"]} == {"least-squares-matching", "least-squares-matching-r1"}
    assert not display.begun


def test_an_attack_that_ends_its_process_costs_itself_alone(alone, tmp_path, monkeypatch):
    crashing = InCopies(signal.SIGSEGV, tmp_path)
    monkeypatch.setattr(LeastSquaresMatching, "invert", lambda *given: crashing(*given))
    found = results(Silent(), tmp_path / "unfinished")
    (told,) = [s for s in found["skipped"] if s["what"] == "least-squares-matching"]
    assert (told["stage"], told["because"]) == ("invert", "failed")
    assert "signal 11, SIGSEGV" in told["reason"]
    others = [f for f in alone["findings"] if f["attack"] != "least-squares-matching"]
    assert [f["attack"] for f in found["findings"]] == [f["attack"] for f in others]


def test_a_process_that_ends_while_it_scores_costs_nothing(alone, tmp_path, monkeypatch):
    here = os.getpid()

    def score(*given):
        if os.getpid() != here:
            (tmp_path / f"ended.{os.getpid()}").touch()
            faulthandler.disable()  # of pytest: what it would print is no news
            os.kill(os.getpid(), signal.SIGSEGV)
        return score_clip(*given)

    monkeypatch.setattr(scoring, "score_clip", score)
    assert results(Silent(), tmp_path / "unfinished") == alone
    assert list(tmp_path.glob("ended.*"))
