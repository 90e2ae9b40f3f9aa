"""The default tests still notice what they noticed: each of many deliberate defects fails one of them."""

import subprocess
import sys
from pathlib import Path

import pytest
from planted_faults import FAULTS, ROOT, module_of, selected


@pytest.mark.slow
def test_every_fault_is_still_where_it_was_planted():
    for fault in FAULTS:
        assert module_of(fault, ROOT).read_text(encoding="utf-8").count(fault.right) == 1, fault.name
        assert selected(fault, ROOT), fault.name


def test_there_is_one_for_each_family_of_modules():
    assert len(FAULTS) >= 30
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    told = {part for fault in FAULTS for part in Path(fault.module).parts[:1]}
    stages = {"model", "probe", "federated", "attack", "solvers", "enhance", "exposure", "score", "pipeline", "study"}
    assert told >= stages | {"report", "cli"}


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_every_fault_is_noticed():
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "planted_faults.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
