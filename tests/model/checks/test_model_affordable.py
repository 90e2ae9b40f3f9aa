"""How much of a network is checked follows from what it computes, and what is left out is told."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from auditor.model import load
from auditor.model.checks import affordable as limits
from auditor.model.checks.affordable import affordable
from auditor.records import TrainingStep

FACTORY = """
import torch
from torch import nn

class Net(nn.Module):
    input_shape = (3, 4, 8, 8)

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.conv(x)).mean((2, 3, 4)))

def net():
    torch.manual_seed(0)
    return Net().eval()
"""


def chosen(operations: float, kept: int = 0, share: float = 1.0) -> tuple[bool, bool, int, bool]:
    checks = affordable(TrainingStep(operations=int(operations), kept=kept, weights=0), share)
    return checks.slopes, checks.alike, checks.gradient, checks.second


def test_small_networks_are_checked_in_full() -> None:
    assert chosen(1e10) == (True, True, 2, True)


def test_larger_networks_lose_the_dearest_checks_first() -> None:
    assert chosen(1.3e11) == (True, True, 1, False)
    assert chosen(5e11) == (True, False, 0, False)


def test_a_corner_of_the_clip_brings_the_checks_back() -> None:
    assert chosen(1.3e12, share=1 / 128) == (True, True, 2, True)


def test_memory_alone_rules_out_second_derivatives() -> None:
    assert chosen(1e9, kept=4 * 2**30) == (True, True, 1, False)


@pytest.mark.parametrize(
    ("most", "gradient", "second", "told"),
    [(None, True, True, 0), (13.0, True, None, 1), (6.0, False, None, 2), (1.0, False, None, 4)],
)
def test_what_was_not_checked_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: float | None, gradient: bool, second: bool | None, told: int
) -> None:
    """`most` is in passes of the network: all checks, all but second derivatives, slopes and answers, none."""
    path = tmp_path / "nets.py"
    path.write_text(FACTORY)
    operations = load(f"{path}:net").step.operations
    if most is not None:
        monkeypatch.setattr(limits, "MOST_OPERATIONS", most * operations)
    fidelity = load(f"{path}:net").fidelity
    assert (fidelity.gradient_check is not None) is gradient
    assert fidelity.double_backward is second
    assert sum("not checked" in m or "not tried" in m or "not compared" in m for m in fidelity.missing) == told


def test_one_slope_finds_a_wrong_derivative() -> None:
    from auditor.model.checks.derivatives import gradient_error
    from auditor.model.video import VideoModel
    from auditor.records import InputSpec

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x: Tensor) -> Tensor:
            return 2 * x

        @staticmethod
        def backward(ctx, slope: Tensor) -> Tensor:
            return slope

    class Net(nn.Module):
        def __init__(self, wrong: bool) -> None:
            super().__init__()
            self.conv, self.wrong = nn.Conv3d(3, 4, 2), wrong

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x).tanh()
            return (Wrong.apply(x) if self.wrong else 2 * x).mean((2, 3, 4))

    spec = InputSpec(layout="NCTHW", frames=4, channels=3, height=8, width=8)
    clip = torch.rand(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    right, wrong = (VideoModel(Net(kind), spec) for kind in (False, True))
    before = {name: value.clone() for name, value in right.named_parameters()}
    assert gradient_error(right, clip, 0, 1) < 0.02
    assert gradient_error(wrong, clip, 0, 1) > 0.2
    for name, value in right.named_parameters():  # in place, and put back
        assert torch.equal(value, before[name])
