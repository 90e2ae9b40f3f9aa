"""Options of `fl-audit filter`."""

from functools import partial

from auditor.declaring import REQUIRED, declaration, option
from auditor.terms import EXPERIMENT, OUTPUT
from auditor.values import Number, Switch, Text, Whole

_filter = partial(option, panel=EXPERIMENT)


@declaration
class FilterOptions:
    """A function of an update that is examined as a black box."""

    file: str = _filter(
        REQUIRED, Text(), "path/file.py:name, a function of an update by names (NumPy arrays)", argument=True
    )
    samples: int = _filter(1000, Whole(100, 1_000_000), "Runs with and without the canary, each.")
    norm: float = _filter(1.0, Number(above=True, example="1"), "Norm of the canary: the largest update there is.")
    delta: float = _filter(1e-5, Number(above=True, below=1.0, example="1e-5"), "Delta at which epsilon is told.")
    epsilon: float | None = _filter(
        None, Number(above=True, example="8"), "Epsilon that is claimed; a bound above it exits 1."
    )
    seed: int = _filter(0, Whole(0, 2**32 - 1), "Seed of update, canary and of NumPy's and PyTorch's noise.")


@declaration
class FilterFiles:
    """What is printed."""

    json: bool = option(False, Switch(), "Print JSON and nothing else.", panel=OUTPUT)
