"""The catalogue of architectures: its stages go on where they stopped, and its tables follow from its lines."""

import argparse
import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture
def benchmarks(monkeypatch):
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(ROOT / "benchmarks")):
            sys.modules.pop(name, None)


def given(**chosen):
    return argparse.Namespace(**{"nets": ["linear", "mlp"], "weights": ["fresh"], "batches": [1, 2], **chosen})


def test_a_stage_does_what_is_not_done_yet_and_nothing_twice(benchmarks, monkeypatch, tmp_path):
    catalogue = benchmarks("architectures")
    asked = []

    def case(one, *, whole=False):
        asked.append(one)
        if len(asked) == 3:
            raise KeyboardInterrupt
        keys = dict(zip(("net", "weights", "batch", "batchnorm"), one, strict=True))
        return {"stage": "attacks", **keys, "grade": "EXACT", "best": 60.0, "attack": "a", "seconds": 1.0}

    monkeypatch.setattr(catalogue, "case", case)
    path = tmp_path / "lines.jsonl"
    with pytest.raises(KeyboardInterrupt):
        catalogue.attack(catalogue.Catalogue(path), given())
    assert len(path.read_text().splitlines()) == 2
    catalogue.attack(catalogue.Catalogue(path), given())
    catalogue.attack(catalogue.Catalogue(path), given())
    every = [(net, "fresh", clips, "eval") for clips in (1, 2) for net in ("linear", "mlp")]
    assert asked == [*every[:3], *every[2:]]
    done = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["net"], line["weights"], line["batch"], line["batchnorm"]) for line in done] == every


def test_batchnorm_meets_the_statistics_of_the_batch_only_where_a_net_has_it(benchmarks):
    catalogue = benchmarks("architectures")
    found = [*catalogue.statistics(["linear", "conv3d-flatten-batchnorm"])]
    assert found == [("conv3d-flatten-batchnorm", "fresh", 1, how) for how in ("train", "sent")]


def layer(exposed, psnr, misfit=0.001, blind=16.0):
    gain = None if psnr is None else psnr - blind
    told = {"determined": 1.0, "numbers": 1.0, "exposed": exposed, "gradient": 1.0, "psnr": psnr, "gain": gain}
    return {"net": "a", "layer": f"{exposed}", "steps": 300, "restarts": 1, "modes": 256, "misfit": misfit, **told}


def test_orders_are_compared_by_ranks_and_by_pairs(benchmarks):
    layers = benchmarks("layers")
    held = [layer(20.0, 18.0), layer(22.0, 17.0), layer(24.0, 20.0), layer(26.0, 22.0)]
    assert layers.correlations(held)["exposed"] == pytest.approx(0.8)
    # 5 pairs of 6 in order, one not.
    assert layers.correlations(held, "kendall")["exposed"] == pytest.approx(4 / 6)
    assert layers.correlations(held)["determined"] is None
    # Losses against a guess are ties: 3 pairs in order, 1 tie among what was recovered; tau-b = 5 / sqrt(6 * 5).
    tied = [layer(20.0, 12.0), layer(22.0, None), layer(24.0, 20.0), layer(26.0, 22.0)]
    assert layers.correlations(tied, "kendall")["exposed"] == pytest.approx(5 / 30**0.5)


def test_the_page_says_what_keeps_a_correlation_low(benchmarks):
    table = benchmarks("architecture_table")
    stuck = [layer(30.0, 17.0, 0.2), layer(20.0, 18.0), layer(18.0, 19.0), layer(17.0, 20.0)]
    (row,) = [table._correlation(*held) for held in table._by_effort(stuck)]
    assert row.startswith("| a | 4 | 300 | 4 | — | — | -1.00 | — | -1.00 |")
    assert "1 searches ended" not in row
    assert "1 search ended" in row
    assert "misfit above 0.03" in row
    other = [layer(30.0, 17.0), *stuck[1:]]
    assert "misfit below it" in table._correlation("300", other)
    good = [layer(20.0, 18.0), layer(22.0, 19.0), layer(24.0, 20.0), layer(26.0, 22.0)]
    assert table._correlation("300", good).endswith("| 1.00 | — | 1.00 |  |")
    tied = [layer(20.0, 18.0), layer(20.01, 17.0), layer(20.02, 16.5), layer(20.03, 16.2)]
    assert "4 of 4 expose the same within 0.05 dB" in table._correlation("300", tied)


def test_of_several_searches_on_a_layer_the_one_that_gave_most_stands(benchmarks):
    layers, table = benchmarks("layers"), benchmarks("architecture_table")
    once = [layer(30.0, 17.0), layer(20.0, 18.0), layer(19.0, 17.5), layer(17.0, 16.5)]
    again = [{**once[0], "steps": 6000, "restarts": 4, "psnr": 29.0, "gain": 13.0}]
    assert layers.fell_short([*once, layer(21.0, None)]) == ["30.0"]
    groups = dict(table._by_effort([*once, *again]))
    assert [*groups] == ["300", "6,000, 4 starts", "the stronger"]
    assert [line["psnr"] for line in groups["the stronger"]] == [29.0, 18.0, 17.5, 16.5]
    assert layers.correlations(groups["the stronger"])["exposed"] == pytest.approx(1.0)


def test_patches_are_put_where_they_lie_nearest(benchmarks):
    orders = benchmarks("patch_orders")
    clip = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(orders.joined(orders.patches(clip)), clip)
    assert torch.equal(orders.patches(clip)[1], clip[:2, :, :8, 8:])
    turn = torch.arange(16).roll(1)
    turn[3:] = torch.arange(3, 16)
    turn[:3] = torch.tensor([2, 0, 1])
    other = orders.joined(orders.patches(clip)[turn])
    ordered, moved = orders.best_order(other, clip)
    assert torch.equal(ordered, clip)
    assert moved == 3
