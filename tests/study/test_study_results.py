"""What a study counts, and what it does when its folder is damaged."""

import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from auditor.errors import AuditError, UsageError
from auditor.journal import Journal
from auditor.records.arithmetic import arithmetic_block
from auditor.study import runner
from auditor.study.measures import BY_NAME
from auditor.study.pictures import _frame
from auditor.study.plan import Selector, StudyModel
from auditor.study.results import Done, _selected, _values

MODEL = StudyModel(name="m", kind="k", options=None, weights=("fresh",), definition="")
CELL = SimpleNamespace(model=MODEL, weights="fresh", references=0)


def unit(clip: str, features: dict | None) -> Done:
    run = {"score": None, "enhanced": [], "features": features}
    return Done(unit=SimpleNamespace(cell=CELL, clip=clip, seed=0, role="own"), run=run)


def test_a_head_that_gives_nothing_away_counts_as_no_bits_where_no_attack_applies():
    nothing = {"recovered": "nothing", "said": "", "error": None, "rank": None, "gallery": 85}
    done = [unit("a", nothing), unit("b", None)]
    nulls = {(id(CELL), "a"): [done[0].run], (id(CELL), "b"): [done[1].run]}
    chosen = _selected(Selector(), done)
    assert _values("feature_bits_over_null", chosen, nulls) == {"a": [0.0]}
    for name in set(BY_NAME) - {"feature_bits_over_null"}:
        assert _values(name, chosen, nulls) == {}


def test_a_damaged_picture_is_one_line_and_made_anew(tmp_path):
    journal = Journal(tmp_path)
    journal.write("key", {"score": {}}, {"clip": torch.zeros(1, 3, 4, 4, dtype=torch.uint8)})
    (tmp_path / "key.safetensors").write_bytes(b"cut")
    with pytest.raises(AuditError, match="run the same command again"):
        _frame(journal, SimpleNamespace(key="key"), "clip")
    assert journal.read("key") is None


def test_a_unit_of_another_key_is_not_done(tmp_path):
    journal = Journal(tmp_path)
    journal.write("key", {"score": {}})
    (tmp_path / "other.json").write_bytes((tmp_path / "key.json").read_bytes())
    assert journal.read("key") is not None
    assert journal.read("other") is None


@pytest.mark.parametrize(("blind", "null", "lead"), [(14.0, 16.0, 4.0), (17.0, 16.0, 3.0)])
def test_the_lead_is_over_the_better_of_guess_and_null(blind, null, lead):
    run, other = {"score": {"psnr": 20.0, "blind": blind}}, {"score": {"psnr": null}}
    assert BY_NAME["lead"].of(run, (other,)) == lead
    assert BY_NAME["lead"].of(run, ()) is None


class Own(Exception):
    """As a user's file may define it: what is sent of it cannot be read back."""

    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


def test_an_exception_of_a_users_own_class_reaches_the_parent(monkeypatch):
    with pytest.raises(TypeError):
        pickle.loads(pickle.dumps(Own(1, 2)))

    def breaks(step):
        raise Own(1, 2)

    monkeypatch.setattr(runner, "_done", breaks)
    with pytest.raises(AuditError) as raised:
        runner._do(SimpleNamespace())
    assert str(pickle.loads(pickle.dumps(raised.value))) == "Own: 1 and 2"


def test_a_remedy_reaches_the_parent(monkeypatch):
    def breaks(step):
        raise UsageError("cause", "remedy")

    monkeypatch.setattr(runner, "_done", breaks)
    with pytest.raises(AuditError) as raised:
        runner._do(SimpleNamespace())
    assert str(pickle.loads(pickle.dumps(raised.value))) == "cause; remedy"


def test_processes_of_a_study_compute_as_a_scan_does(tmp_path):
    setup = (os.getpid(), str(tmp_path), "cpu", (), None, None)
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawning, initializer=runner._begin, initargs=setup) as pool:
        found = pool.submit(arithmetic_block, torch.device("cpu")).result()
    assert found["denormals"] == "flushed"
