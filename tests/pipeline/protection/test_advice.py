"""What is recommended of a search, and what is not."""

from types import SimpleNamespace

import pytest

from auditor.pipeline.documents.defend import _recommended
from auditor.pipeline.protection.utility import Utility
from auditor.records import Skipped


def setting(spec: str, snr: float = 0.0):
    best = SimpleNamespace(attack=SimpleNamespace(name="least-squares-matching"))
    return SimpleNamespace(judged=SimpleNamespace(specs=(spec,), snr=snr, unadapted=("april",), best=best))


def search(
    spec: str, accuracy: float | None, *, chance: float | None = 0.1, advised: bool = True, told: bool = True, snr=0.0
):
    utility = None if accuracy is None else Utility(value=accuracy, measure="accuracy", chance=chance)
    found = setting(spec, snr) if advised else None
    return SimpleNamespace(advised=found, told=told, utility=utility, exposed=object())


def advice(*searches, bare: float | None = 0.9):
    skipped = Skipped(stage="utility", what="accuracy", because="out-of-budget", reason="", remedy="")
    first = skipped if bare is None else Utility(value=bare, measure="accuracy", chance=0.1)
    return [block.specs[0] for block in _recommended(SimpleNamespace(searches=searches, utility=first))]


def test_the_least_costly_comes_first():
    assert advice(search("a", 0.6), search("b", 0.8), search("c", 0.8, snr=-3.0)) == ["b", "c", "a"]
    # Without a measure the update that changed least comes first.
    assert advice(search("a", None, snr=-9.0), search("b", None, snr=-1.0), bare=None) == ["b", "a"]


@pytest.mark.parametrize(
    "held",
    [
        search("a", 0.8, advised=False),  # linear analysis still sees the clip
        search("a", 0.8, told=False),  # not everything could be judged
        search("a", 0.49),  # training gains less than half of 0.8
    ],
)
def test_what_is_not_measured_to_the_end_or_ruins_training_is_not_recommended(held):
    assert advice(held) == []


def test_ones_own_measure_has_no_chance_and_ruins_nothing():
    assert advice(search("a", -7.0, chance=None)) == ["a"]
    assert advice(search("a", 0.51)) == ["a"]
