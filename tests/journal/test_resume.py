"""Scans that are interrupted and go on: the same results as of one that was left alone, without doing work twice."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from short_scans import scanning, short

from auditor.journal import Kept, journaling
from auditor.pipeline import ScanOptions, Silent, scan
from auditor.results.repeatable import without_times

MODELS = Path(__file__).parent.parent / "models_for_scans.py"
OPTIONS = ScanOptions(model=f"{MODELS}:tiny", input_shape=(3, 4, 16, 16))
PRESET = dataclasses.replace(short(50, attacks=("least-squares-matching", "least-squares-matching-r1")), diagnose=True)
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
    with scanning(PRESET, enhanced=0, controls_anew=True), journaling(folder, "program") as parts:
        return without_times(scan(OPTIONS, display).results), parts


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> tuple[dict, list[str], int, Path]:
    display, folder = Interrupting(after=10**6), tmp_path_factory.mktemp("alone") / "unfinished"
    found, parts = results(display, folder)
    assert parts.taken == 0
    assert {"least-squares-matching", "least-squares-matching-r1"} <= {f["attack"] for f in found["findings"]}
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
