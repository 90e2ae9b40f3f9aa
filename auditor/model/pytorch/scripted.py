"""TorchScript archives: reading one can run code, so only where the user trusts it."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from auditor.errors import NotAuditable
from auditor.model.onnx.frozen_batch import in_parts
from auditor.model.pytorch.built import Built
from auditor.model.pytorch.inner import Archived
from auditor.model.sandbox.user_file import in_a_line
from auditor.text import printable

NORM = "BatchNorm"
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class ScriptedNetwork(Archived):
    """A TorchScript module, run as it was written.

    Its optimiser is off: the code that it generates has no second derivatives. Operations still pass through torch's
    dispatcher one by one, which is all that watching layers needs; hooks on modules would never be called.
    """

    def forward(self, x: Tensor) -> Any:
        """Return what the module returns."""
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            run = self._with_batch_statistics if self.batch_statistics else self.inner
            return run(x) if self.parts is None else in_parts(run, x, self.parts)

    def __deepcopy__(self, memo: dict[int, Any]) -> "ScriptedNetwork":
        with torch.no_grad():  # else the copy's parameters would hang on the originals as results of a clone
            twin = super().__deepcopy__(memo)
        assert isinstance(twin, ScriptedNetwork)
        for parameter, original in zip(twin.parameters(), self.parameters(), strict=True):
            parameter.requires_grad_(original.requires_grad)
        return twin

    def _with_batch_statistics(self, x: Tensor) -> Any:
        """Run BatchNorm in training mode on copies of the running statistics, which therefore never change."""
        norms = batch_norms(self.inner)
        kept = [(norm, name, getattr(norm, name)) for norm in norms for name in STATISTICS if hasattr(norm, name)]
        for norm, name, value in kept:
            if isinstance(value, Tensor):
                setattr(norm, name, value.clone())
        for norm in norms:
            norm.training = True
        try:
            return self.inner(x)
        finally:
            for norm in norms:
                norm.training = False
            for norm, name, value in kept:
                if isinstance(value, Tensor):
                    setattr(norm, name, value)


def batch_norms(network: nn.Module) -> list[nn.Module]:
    """Return the BatchNorm modules of a TorchScript module."""
    return [module for module in network.modules() if NORM in str(getattr(module, "original_name", ""))]


def from_torchscript(path: Path) -> Built:
    """Read a TorchScript archive. It can run code.

    Raises
    ------
    NotAuditable
        It cannot be read, or has no trainable parameter.
    """
    shown = printable(path.name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is deprecated; that is the user's to know
            module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as error:
        raise NotAuditable(
            f"{shown} cannot be read as a TorchScript archive ({in_a_line(error)})", "save it with this torch"
        ) from error
    if next(module.parameters(), None) is None:
        raise NotAuditable(
            f"{shown} has no trainable parameter: a frozen TorchScript module keeps its weights as constants",
            "save it without torch.jit.freeze",
        )
    network = ScriptedNetwork(module)
    norms = batch_norms(module)
    traced = type(module).__name__ == "TopLevelTracedModule" or _is_traced(module)
    notes = ["The operations are those of the TorchScript archive."]
    if norms and traced:
        network.switchable = False
        notes.append("It was traced: BatchNorm stays in the mode it was traced in, and --bn cannot switch it.")
    return Built(
        network,
        printable(path.stem),
        origin="given by the user",
        batchnorm="fixed" if norms and traced else "kept" if norms else "none",
        evidence=f"{len(norms) or 'no'} BatchNorm modules in the archive",
        notes=tuple(notes),
    )


def _is_traced(module: nn.Module) -> bool:
    """Tell tracing from scripting: a traced forward never reads its mode."""
    return not any("training" in str(getattr(norm, "code", "")) for norm in batch_norms(module))
