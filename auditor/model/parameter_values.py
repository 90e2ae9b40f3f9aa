"""Other values for a network's parameters, while it runs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from auditor.errors import NotAuditable


@contextmanager
def with_parameters(network: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Let a network run on other values of some parameters, differentiably; its own come back at the end.

    `values` go by the names of `named_parameters`; a parameter that several modules share is replaced in all of them.
    Like `torch.func.functional_call`, but for names that are no paths of attributes, as ONNX files have them.

    Raises
    ------
    NotAuditable
        The network is TorchScript, whose parameters cannot be replaced.
    LookupError
        There is no parameter of that name.
    """
    own = dict(network.named_parameters())
    missing = next((name for name in values if name not in own), None)
    if missing is not None:
        raise LookupError(f"the model has no parameter '{missing}'")
    wanted = {id(own[name]): value for name, value in values.items()}
    tables = []
    for module in network.modules():
        if isinstance(module, torch.jit.ScriptModule) and wanted:
            raise NotAuditable(
                "the weights of a TorchScript module cannot be replaced while it runs, as several local steps need",
                "give the model as a PyTorch factory (path/file.py:factory) or as ONNX",
            )
        tables += [(module._parameters, leaf, p) for leaf, p in module._parameters.items() if id(p) in wanted]
    try:
        for table, leaf, parameter in tables:
            table[leaf] = wanted[id(parameter)]  # type: ignore[assignment]
        yield
    finally:
        for table, leaf, parameter in tables:
            table[leaf] = parameter
