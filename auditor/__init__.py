"""fl-audit: a privacy audit for federated learning on video.

`load`, `scan`, `compare`, `attack` and `defend` do what the commands do (docs/python.md); `operator` declares an
operator of ONNX (docs/operators.md). Everything else is private. Importing this package imports no torch.
"""

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Unpack

from auditor.errors import AuditError, ExitCode, Inconclusive, NotAuditable, UsageError
from auditor.interface import attack, compare, defend, load, scan
from auditor.interface import attack as _attack
from auditor.keywords import AttackKeywords
from auditor.results.version import __version__

if TYPE_CHECKING:
    from auditor.model.onnx.operators import operator
    from auditor.pipeline.captured.attack import AttackedCapture
    from auditor.pipeline.single_attack.run import Attacked

__all__ = [
    "AuditError",
    "ExitCode",
    "Inconclusive",
    "NotAuditable",
    "UsageError",
    "__version__",
    "attack",
    "compare",
    "defend",
    "load",
    "operator",
    "scan",
]


def __getattr__(name: str) -> Any:
    if name == "operator":
        from auditor.model.onnx.operators import operator

        return operator
    raise AttributeError(f"module 'auditor' has no attribute '{name}'")


class _Attacks(ModuleType):
    """The folder of attacks, which can be called like the function of its name."""

    def __call__(
        self, model: str | Path | None = None, **options: Unpack[AttackKeywords]
    ) -> "Attacked | AttackedCapture":
        return _attack(model, **options)


class _Auditor(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        # Importing the folder auditor/attack puts it in place of the function `attack`.
        if name == "attack" and isinstance(value, ModuleType):
            value.__class__ = _Attacks
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Auditor
