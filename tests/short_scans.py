"""Whole scans that tests can afford: few steps, few clips enhanced, and time to spare on a busy machine."""

import contextlib
import dataclasses
import importlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from auditor.attack import PRESETS, Preset
from auditor.enhance import DatLight, Fusion
from auditor.exposure import layers
from auditor.journal import digest_of
from auditor.pipeline import ScanOptions, Silent, controls, enhancement, scan
from auditor.records.work import spare, work_so_far

_PLANTED: dict[object, tuple[tuple[float, float, float], float, float]] = {}


def short(steps: int = 40, attacks: tuple[str, ...] | None = None, probes: int = 2) -> Preset:
    """Return `fast` with few steps; with closed forms and the `attacks` named alone, where some are."""
    fast = PRESETS["fast"]
    kept = fast.attacks if attacks is None else tuple(a for a in fast.attacks if a.closed_form or a.name in attacks)
    assert attacks is None or {a.name for a in kept} >= set(attacks)
    return dataclasses.replace(fast, steps=steps, probes=probes, seconds=600.0, attacks=kept)


def _once(attack_planted: Any) -> Any:
    """Return what attacks a planted leak, with what it found remembered: no scan's own net takes part in it."""

    def attacked(net: Any, spec: Any, attack: Any, device: Any, budget: Any, labels: Any = (3,)) -> Any:
        try:
            content = digest_of(attack, dict(net.state_dict()), spec, budget.seconds, budget.steps, labels)
        except (TypeError, ValueError):
            return attack_planted(net, spec, attack, device, budget, labels)
        # The function too: a test may have put a broken one in its place.
        key = (content, str(net), type(attack).invert, str(device))
        if key not in _PLANTED:
            begun = work_so_far()
            found = attack_planted(net, spec, attack, device, budget, labels)
            _PLANTED[key] = found, begun, work_so_far()
            return found
        found, begun, ended = _PLANTED[key]
        spare(begun, ended)
        return found

    return attacked


@contextlib.contextmanager
def controls_remembered() -> Iterator[None]:
    """Run no planted leak again that was attacked in this process before, by the same attack in the same way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(controls, "_attack", _once(controls._attack))
        yield


@contextlib.contextmanager
def scanning(preset: Preset, enhanced: int = 1, controls_anew: bool = False) -> Iterator[None]:
    """Let `fast` be another preset, and leave out what most of a short scan would be.

    The worst `enhanced` findings alone are enhanced, twofold, and exposure is bracketed by few products. Positive
    controls that an earlier scan of this process ran in just that way are not run again, unless `controls_anew`.
    """
    # The package shows the function of that name, not the module.
    importlib.import_module("auditor.pipeline.scan")
    module = sys.modules["auditor.pipeline.scan"]
    whole, needed = module.enhance_results, enhancement._needed

    def twofold(enhancers: Any, clip: Any) -> Any:
        return needed([e for e in enhancers if e.scale == 2 or not isinstance(e, DatLight | Fusion)], clip)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "fast", preset)
        patch.setattr(module, "enhance_results", lambda findings, *rest: whole(findings[:enhanced], *rest))
        patch.setattr(enhancement, "_needed", twofold)
        patch.setattr(layers, "MOST_PRODUCTS", 12)
        patch.setattr(layers, "_MOST_OF_A_LAYER", 6)
        with contextlib.nullcontext() if controls_anew else controls_remembered():
            yield


def results_of(options: ScanOptions, preset: Preset, enhanced: int = 1, controls_anew: bool = False) -> dict[str, Any]:
    """Scan as told; return the results."""
    with scanning(preset, enhanced, controls_anew):
        return scan(options, Silent()).results
