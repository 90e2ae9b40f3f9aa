"""A filter of updates as a black box: the least epsilon that its outputs prove, and what it is not."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from auditor.errors import UsageError
from auditor.filter_options import FilterOptions
from auditor.model.sandbox.user_file import executed, in_a_line
from auditor.results.protection.filter import FILTER, FilterDocument, FilteredTensor
from auditor.score import empirical_epsilon, matched, normal_epsilon
from auditor.text import printable

Arrays = Mapping[str, Float[np.ndarray, "..."]]
Filter = Callable[[dict[str, np.ndarray]], Arrays]

# A small network's update: what filters do differs from tensor to tensor, seldom with their sizes.
_SHAPES = {"conv.weight": (16, 3, 3, 3), "conv.bias": (16,), "middle.weight": (32, 16), "head.weight": (10, 32)}
# Of the canary's norm: the base is there so that filters which divide by a norm have one.
_BASE = 1e-2
# Runs by which the noise of every tensor is told, of all runs.
_PILOT = 0.1
# Noise of a tensor below this share of the largest of all is none to speak of.
_VANISHED = 1e-2
# A canary so many times as large tells whether anything limits it; a filter that clips moves no more than twice as far.
_LARGER, _LIMITED = 100.0, 2.0
# Noise that fell to a tenth from the first runs to the last: of ten runs each, chance does so once in 10 million.
_FADED = 0.1
# What float32 squares without loss lies between.
_SMALLEST, _LARGEST = 1e-15, 1e15
_FEW = 20
_REMEDY = "give path/file.py:name, a function that takes and returns {name: numpy.ndarray}"


def audit_filter(options: FilterOptions) -> FilterDocument:
    """Run a filter on a base update and on the base with a canary, and state what the two samples prove.

    The canary is a random direction over all tensors, of the norm given (after Andrew et al. 2023, arXiv 2302.03098).
    Outputs are projected on it, every tensor by its own noise. Any pair of updates bounds epsilon from below: a
    filter may have a larger one.

    Raises
    ------
    UsageError
        There is no such function, it raises, or what it returns is no update.
    """
    if not _SMALLEST <= options.norm <= _LARGEST:
        raise UsageError(
            f"--norm {options.norm:g} is out of what float32 holds well",
            f"give a norm from {_SMALLEST:g} to {_LARGEST:g}",
        )
    function = _loaded(options.file)
    np.random.seed(options.seed)
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    canary = _scaled({n: rng.standard_normal(s) for n, s in _SHAPES.items()}, options.norm)
    base = _scaled({n: rng.standard_normal(s) for n, s in _SHAPES.items()}, _BASE * options.norm)
    pilot = max(_FEW, int(_PILOT * options.samples))
    noise = _noise(function, base, pilot)
    without = _projected(function, base, canary, options.samples)
    found = _projected(function, _sum(base, canary), canary, options.samples)
    spreads = {n: _spread(without[n][:pilot]) for n in _SHAPES}
    passed = {n: float(found[n].mean() - without[n].mean()) / _own(canary, n) for n in _SHAPES}
    seen = [n for n in _SHAPES if spreads[n] == _spread(found[n]) == 0.0 and passed[n] != 0.0]
    proven, normal = None, None
    if not seen:
        kept = [n for n in _SHAPES if spreads[n] > 0.0]
        samples = [
            matched([one[n][pilot:] for n in kept], [spreads[n] for n in kept]) if kept else np.zeros(2)
            for one in (without, found)
        ]
        proven = empirical_epsilon(samples[0], samples[1], options.delta)
        normal = normal_epsilon(samples[0], samples[1], options.delta) if kept else None
    best = math.inf if seen else max(proven or 0.0, normal or 0.0)
    return FilterDocument(
        schema=FILTER,
        filter=printable(options.file, 200),
        samples=options.samples,
        norm=options.norm,
        delta=options.delta,
        seed=options.seed,
        unbounded=bool(seen),
        proven=proven,
        if_normal=normal,
        claimed=options.epsilon,
        contradicted=options.epsilon is not None and best > options.epsilon,
        tensors=tuple(
            FilteredTensor(name=n, entries=canary[n].size, noise=noise[n], passed=passed[n]) for n in _SHAPES
        ),
        faults=(*_faded(without, pilot), *_faults(function, base, canary, noise, passed)),
    )


def _loaded(source: str) -> Filter:
    text, colon, name = source.rpartition(":")
    path = Path(text)
    if not colon or not path.is_file():
        raise UsageError(f"there is no file {printable(text or source)}", _REMEDY)
    function = getattr(executed(path, _REMEDY), name, None)
    if not callable(function):
        raise UsageError(f"{printable(path.name)} defines no function {printable(name)}", _REMEDY)

    def checked(update: dict[str, np.ndarray]) -> Arrays:
        try:
            made = function({n: g.astype(np.float32) for n, g in update.items()})
        except (Exception, SystemExit) as error:
            raise UsageError(f"the filter raised {in_a_line(error)}", "run it in Python to see where") from error
        return _checked(made)

    return checked


def _checked(made: object) -> Arrays:
    """Return what a filter returned; what it leaves out is zero."""
    if not isinstance(made, Mapping):
        raise UsageError(f"the filter returned {type(made).__name__}, not a mapping of arrays", _REMEDY)
    stray = next((n for n in made if n not in _SHAPES), None)
    if stray is not None:
        raise UsageError(
            f"the filter returned {printable(str(stray), 60)}, which it was not given",
            "return arrays under the names that came in: whatever else is sent would not be examined",
        )
    arrays = {n: _array(n, made[n]) if n in made else np.zeros(s) for n, s in _SHAPES.items()}
    wrong = next((n for n, a in arrays.items() if a.shape != _SHAPES[n]), None)
    if wrong is not None:
        raise UsageError(f"the filter changed the shape of {wrong}", "return every array in the shape it had")
    broken = next((n for n, a in arrays.items() if not np.isfinite(a).all()), None)
    if broken is not None:
        raise UsageError(f"the filter returned values that are not finite in {broken}", "return finite numbers")
    return arrays


def _array(name: str, value: object) -> Float[np.ndarray, "..."]:
    try:
        found = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # as tensors of PyTorch raise
        raise UsageError(f"the filter returned no array for {name}: {in_a_line(error)}", _REMEDY) from error
    if found.dtype.kind not in "fiub":
        raise UsageError(f"the filter returned {found.dtype} for {name}", "return arrays of real numbers")
    return found.astype(np.float64)


def _scaled(arrays: Arrays, norm: float) -> dict[str, np.ndarray]:
    length = math.sqrt(sum(float((a**2).sum()) for a in arrays.values()))
    return {n: a * (norm / length) for n, a in arrays.items()}


def _sum(one: Arrays, other: Arrays, times: float = 1.0) -> dict[str, np.ndarray]:
    return {n: a + times * other[n] for n, a in one.items()}


def _own(canary: Arrays, name: str) -> float:
    """Return the canary's norm in one tensor."""
    return float(np.linalg.norm(canary[name]))


def _spread(sample: np.ndarray) -> float:
    """Return the standard deviation; exactly 0 where all are the same, which rounding of their mean would hide."""
    return float(np.std(sample, ddof=1)) if float(np.ptp(sample)) > 0.0 else 0.0


def _projected(function: Filter, update: dict[str, np.ndarray], canary: Arrays, runs: int) -> dict[str, np.ndarray]:
    """Return, for every tensor and run, the output along the canary's part of it."""
    made: dict[str, list[float]] = {n: [] for n in _SHAPES}
    for _ in range(runs):
        out = function(update)
        for n, held in made.items():
            held.append(float((out[n] * canary[n]).sum()) / _own(canary, n))
    return {n: np.asarray(held) for n, held in made.items()}


def _noise(function: Filter, update: dict[str, np.ndarray], runs: int) -> dict[str, float]:
    """Return the root mean square of what changes from run to run, per entry of every tensor."""
    outs = [function(update) for _ in range(runs)]
    stacked = {n: np.stack([out[n] for out in outs]) for n in _SHAPES}
    return {n: float(np.sqrt(np.var(o - o[0], axis=0, ddof=1).mean())) for n, o in stacked.items()}


def _faded(without: Mapping[str, np.ndarray], runs: int) -> list[str]:
    """Say which tensors' noise is all but gone in the last of many runs on the same update."""
    gone = [n for n, held in without.items() if _spread(held[-runs:]) < _FADED * _spread(held[:runs])]
    if not gone:
        return []
    return [f"its noise fades from run to run on {', '.join(gone)}: later updates travel as they are"]


def _faults(
    function: Filter,
    base: dict[str, np.ndarray],
    canary: Arrays,
    noise: Mapping[str, float],
    passed: Mapping[str, float],
) -> list[str]:
    found = []
    largest = max(noise.values())
    if largest == 0.0:
        found.append("it is deterministic: the same update always gives the same output, so no epsilon holds")
    bare = [n for n in _SHAPES if noise[n] <= _VANISHED * largest and passed[n] != 0.0]
    if largest > 0.0 and bare:
        first = next(n for n in _SHAPES if n not in bare)
        found.append(f"noise is added to {first} and hardly any to {', '.join(bare)}: these travel as they are")
    further = _projected(function, _sum(base, canary, _LARGER), canary, _FEW)
    nearer = _projected(function, _sum(base, canary), canary, _FEW)
    far, near = (sum(float(one[n].mean()) * _own(canary, n) for n in _SHAPES) for one in (further, nearer))
    spread = math.sqrt(sum((float(np.std(nearer[n])) * _own(canary, n)) ** 2 for n in _SHAPES) / _FEW)
    if abs(far) > _LIMITED * abs(near) + 5.0 * spread:
        found.append(
            f"it does not clip: an update {_LARGER:.0f} times as large comes out {abs(far / near):.0f} times as large, "
            "so one client may change the result by any amount"
        )
    return found
