"""Order by leakage: intervals over clips and seeds, ties where they overlap, and what follows from the rest."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from auditor.probe.scenes import camera
from auditor.results.comparison import CandidateBlock, ClipLeakage, MeanInterval
from auditor.study.claims import Effect, effect, t_interval


def interval(clips: Iterable[ClipLeakage], against: Iterable[ClipLeakage] | None = None) -> MeanInterval | None:
    """Return mean leakage with its 95% interval, or that of its differences to `against` on clips and seeds of both.

    Student's t interval over scenes (seeds of one scene averaged), and over seeds (clips of one seed averaged) where
    there are three or more, added in quadrature: clips and weights are both drawn, and each is its own reason to doubt
    a mean. None where there is nothing.
    """
    values = {(c.clip, c.seed): c.leakage for c in clips}
    if against is not None:
        other = {(c.clip, c.seed): c.leakage for c in against}
        values = {key: value - other[key] for key, value in values.items() if key in other}
    found = effect(_grouped(values), scene=camera)
    if found is None:
        return None
    by_seed: dict[int, list[float]] = {}
    for (_, seed), value in values.items():
        by_seed.setdefault(seed, []).append(value)
    half = _half(found, [fmean(of) for of in by_seed.values()])
    return MeanInterval(
        mean=found.mean,
        low=None if half is None else found.mean - half,
        high=None if half is None else found.mean + half,
        scenes=found.scenes,
        seeds=len(by_seed),
        runs=len(values),
    )


def _grouped(values: Mapping[tuple[str, int], float]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for (clip, _), value in values.items():
        found.setdefault(clip, []).append(value)
    return found


def _half(over_scenes: Effect, seeds: Sequence[float]) -> float | None:
    """Half the width; None where there are too few scenes and too few seeds."""
    low, high = t_interval(seeds)
    widths = [
        (b - a) / 2.0 for a, b in ((over_scenes.low, over_scenes.high), (low, high)) if a is not None and b is not None
    ]
    return math.hypot(*widths) if widths else None


def clearly_more(a: MeanInterval | None, b: MeanInterval | None) -> bool:
    """Tell whether the whole interval of one lies above that of the other."""
    return a is not None and b is not None and a.low is not None and b.high is not None and a.low > b.high


def in_order(blocks: Sequence[CandidateBlock]) -> list[CandidateBlock]:
    """Return models by mean leakage, most first; what was not measured comes last."""
    return sorted(blocks, key=lambda b: -math.inf if b.leakage is None else b.leakage.mean, reverse=True)


def ranks(block: CandidateBlock, blocks: Sequence[CandidateBlock]) -> tuple[int, int]:
    """Return the first and last rank, 1 leaks most, that the intervals allow among the models that were measured."""
    measured = [b for b in blocks if b.leakage is not None]
    first = 1 + sum(clearly_more(b.leakage, block.leakage) for b in measured)
    last = len(measured) - sum(clearly_more(block.leakage, b.leakage) for b in measured)
    return first, last


def ties(block: CandidateBlock, blocks: Sequence[CandidateBlock]) -> tuple[str, ...]:
    """Return the names of the other measured models whose order to this one nothing tells."""
    return tuple(
        b.name
        for b in blocks
        if b.name != block.name
        and b.leakage is not None
        and not clearly_more(b.leakage, block.leakage)
        and not clearly_more(block.leakage, b.leakage)
    )
