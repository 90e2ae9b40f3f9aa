"""Memory that is freed stays with a scan, so that the system need not clear it again."""

import ctypes
import subprocess
import sys

import pytest

# Many tensors of 16 MiB at once, freed and taken again: more than glibc keeps by itself.
FAULTS = """
import resource, sys, torch
from auditor.records.free_memory import keep_free_memory

def again():
    return [torch.ones(4 << 20) for _ in range(12)]

if sys.argv[1] == "keep":
    keep_free_memory()
again()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    again()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library has no mallopt")
def test_freed_memory_is_taken_again_without_new_pages():
    kept, usual = (
        int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("keep", "usual")
    )
    assert kept < 0.2 * usual
