"""Whole scans that tests can afford: few steps, few clips enhanced, and time to spare on a busy machine."""

import contextlib
import dataclasses
import importlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from auditor.attack import PRESETS, Preset
from auditor.pipeline import ScanOptions, Silent, scan


def short(steps: int = 40, attacks: tuple[str, ...] | None = None, probes: int = 2) -> Preset:
    """Return `fast` with few steps; with closed forms and the `attacks` named alone, where some are."""
    fast = PRESETS["fast"]
    kept = fast.attacks if attacks is None else tuple(a for a in fast.attacks if a.closed_form or a.name in attacks)
    assert attacks is None or {a.name for a in kept} >= set(attacks)
    return dataclasses.replace(fast, steps=steps, probes=probes, seconds=600.0, attacks=kept)


@contextlib.contextmanager
def scanning(preset: Preset, enhanced: int = 1) -> Iterator[None]:
    """Let `fast` be another preset, and enhance the worst `enhanced` findings only: that takes most of a short scan."""
    # The package shows the function of that name, not the module.
    importlib.import_module("auditor.pipeline.scan")
    module = sys.modules["auditor.pipeline.scan"]
    whole = module.enhance_results
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "fast", preset)
        patch.setattr(module, "enhance_results", lambda findings, *rest: whole(findings[:enhanced], *rest))
        yield


def results_of(options: ScanOptions, preset: Preset, enhanced: int = 1) -> dict[str, Any]:
    """Scan as told; return the results."""
    with scanning(preset, enhanced):
        return scan(options, Silent()).results
