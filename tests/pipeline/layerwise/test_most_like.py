"""Which net of the catalogue a model is placed beside, and that none is named where none is alike."""

import pytest
import torch
from bench_nets import flat, mlp, pooled, seeded, target_of
from torch import nn

from auditor.pipeline.documents.architecture_rules import catalogue
from auditor.pipeline.documents.most_like import most_like, structure
from auditor.results.encode import document


class Signals(nn.Module):
    """Reads every pixel as a signal over frames, which no net of the catalogue does."""

    def __init__(self) -> None:
        super().__init__()
        self.walk, self.head = nn.Conv1d(3 * 16 * 16, 8, 3, padding=1), nn.Linear(8, 10)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.head(self.walk(clips.transpose(1, 2).flatten(2).transpose(1, 2)).mean(2))


@pytest.mark.parametrize(("net", "head"), [(flat, "all positions"), (pooled, "average"), (mlp, "pixels")])
def test_a_model_is_placed_beside_a_net_with_its_kinds_and_head(net, head):
    target = target_of(seeded(net))
    assert structure(target.layers)["head"] == head
    found = most_like(target, 1)
    assert found is not None
    assert catalogue()["structures"][found.net] == structure(target.layers)
    case = next(c for c in catalogue()["cases"] if (c["net"], c["weights"], c["batch"]) == (found.net, "fresh", 1))
    assert (found.attack, found.psnr, found.grade.name) == (case["attack"], case["best"], case["grade"])
    assert document(found)["net"] == found.net
    alike = [name for name, other in catalogue()["structures"].items() if other == structure(target.layers)]
    assert found.nets == len(alike)


def test_more_clips_an_update_are_told_from_their_own_case_and_unknown_counts_from_one_clip():
    target = target_of(seeded(pooled))
    assert most_like(target, 2).clips == 2
    assert most_like(target, 7).clips == 1


def test_nothing_is_said_where_no_net_is_alike():
    assert most_like(target_of(seeded(Signals)), 1) is None
