"""The patch embedding's closed form at the size of real video transformers."""

import dataclasses
import time

import pytest
import torch
from bench_nets import psnr, seeded, view_of
from torch import Tensor, nn

from auditor.attack.closed_form.patch_embedding import PatchEmbeddingInversion
from auditor.federated import LocalClient, observe
from auditor.probe.real import shipped_probes
from auditor.records import Budget, FederatedProtocol, InputSpec, Outcome, Reconstruction

SPEC = InputSpec(frames=16, channels=3, height=112, width=112, layout="NCTHW", mean=(0.45,) * 3, std=(0.225,) * 3)


class Wide(nn.Module):
    """392 tubelets of 768 features with learned positions, one block."""

    def __init__(self, width: int = 768, spread: float = 0.02) -> None:
        super().__init__()
        self.embed = nn.Conv3d(3, width, (2, 16, 16), (2, 16, 16))
        self.position = nn.Parameter(spread * torch.randn(1, 392, width))
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spread", "rate", "momentum", "least"),
    [
        # Positions that start at zero, as those of ViViT and TimeSformer in transformers do, are rounded relative to
        # what they moved by. Measured: 59.2, 65.8 and 61.5 dB; the embedding's weights are rounded too.
        (0.0, 0.01, 0.0, 58.0),
        (0.0, 0.01, 0.9, 60.0),
        (0.0, 0.1, 0.0, 60.0),
        # Others are rounded relative to their size. Measured: 46.8, 53.0 and 47.4 dB; no filter whatever gets beyond
        # 50 to 55 dB, the true token gradients would give 63 to 68.
        (0.02, 0.01, 0.0, 45.0),
        (0.02, 0.01, 0.9, 51.0),
        (0.02, 0.1, 0.0, 45.0),
    ],
)
def test_after_twenty_local_steps_the_rounding_of_weights_is_the_limit(spread, rate, momentum, least):
    truth = shipped_probes(SPEC, 1)[0].clip
    view = view_of(seeded(lambda: Wide(spread=spread)), truth[None], [3], spec=SPEC)
    protocol = FederatedProtocol(
        algorithm="FedAvg", sent=tuple(view.target.parameters), local_epochs=20, learning_rate=rate, momentum=momentum
    )
    client = LocalClient(view.target.model, protocol)
    update = observe(client, truth[None], torch.tensor([3]))
    made = PatchEmbeddingInversion().invert(
        dataclasses.replace(view, client=client, update=update), Budget(seconds=60.0, steps=1), 0
    )
    assert isinstance(made, Reconstruction)
    # This attacker does not know the training, so that the equation alone is the proof.
    assert made.outcome is Outcome.SOLVED
    assert psnr(made.clips[0], truth) > least
    assert abs(psnr(made.clips[0], truth) - made.certificate["expected_psnr"]) < 2.0
