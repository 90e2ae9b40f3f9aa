"""The patch embedding's closed form at the size of real video transformers."""

import time

import pytest
import torch
from bench_nets import psnr, seeded, view_of
from torch import Tensor, nn

from auditor.attack.patch_embedding import PatchEmbeddingInversion
from auditor.probe.real import shipped_probes
from auditor.records import Budget, InputSpec, Outcome, Reconstruction

SPEC = InputSpec(frames=16, channels=3, height=112, width=112, layout="NCTHW", mean=(0.45,) * 3, std=(0.225,) * 3)


class Wide(nn.Module):
    """392 tubelets of 768 features with learned positions, one block."""

    def __init__(self, width: int = 768) -> None:
        super().__init__()
        self.embed = nn.Conv3d(3, width, (2, 16, 16), (2, 16, 16))
        self.position = nn.Parameter(0.02 * torch.randn(1, 392, width))
        self.block = nn.TransformerEncoderLayer(width, 8, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.embed(x).flatten(2).transpose(1, 2) + self.position).mean(1))


@pytest.mark.slow
def test_a_clip_of_392_tubelets_is_exact_in_seconds():
    truth = shipped_probes(SPEC, 1)[0].clip
    view = view_of(seeded(Wide), truth[None], [3], spec=SPEC)
    begun = time.monotonic()
    made = PatchEmbeddingInversion().invert(view, Budget(seconds=60.0, steps=1), 0)
    seconds = time.monotonic() - begun
    assert isinstance(made, Reconstruction)
    assert made.outcome is Outcome.SOLVED
    assert made.certificate["rank"] == 392
    # Measured: 100.6 dB in 3 to 4 s on one thread of a busy machine.
    assert psnr(made.clips[0], truth) > 60.0
    assert seconds < 10.0
