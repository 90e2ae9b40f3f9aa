"""Exports are made once a session: each takes seconds."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from zoo import SHAPE, build, export, randomised, resnet

from auditor.model import load
from auditor.records import Target

# These scripts need other frameworks; the files they made are what is tested.
collect_ignore = ["files"]

Exported = Callable[..., tuple[nn.Module, Target]]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Small nets gain nothing from a second thread, and lose much on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Return a function (net, exporter) -> (the original net, the loaded export)."""
    folder: Path = tmp_path_factory.mktemp("zoo")
    made: dict[tuple[str, str, bool], tuple[nn.Module, Target]] = {}

    def get(name: str, exporter: str = "legacy", dynamic: bool = False) -> tuple[nn.Module, Target]:
        key = (name, exporter, dynamic)
        if key not in made:
            net = randomised(resnet()) if name == "r3d_18" else build(name)
            shape = (3, 8, 32, 32) if name == "r3d_18" else SHAPE
            path = export(net, folder / f"{name}-{exporter}-{dynamic}.onnx", exporter, shape, dynamic)
            made[key] = net, load(str(path))
        return made[key]

    return get


@pytest.fixture
def clips() -> torch.Tensor:
    """Two random clips of the zoo's size."""
    return torch.rand(2, 8, 3, 16, 16, generator=torch.Generator().manual_seed(3))
