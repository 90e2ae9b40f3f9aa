"""Smaller clips with the same weights, where the audited size was not broken: evidence that says its size."""

import dataclasses

import pytest
import torch
from bench_nets import pooled, seeded, target_of
from residual_nets import ResidualNet
from short_scans import results_of, short

from auditor.attack import BY_NAME
from auditor.model import on_smaller_clips
from auditor.model.video import VideoModel
from auditor.options import ScanOptions
from auditor.pipeline.deep import planning, scaled_down
from auditor.report import write
from auditor.report.depth import scaled_line

MODELS = f"{__file__.rpartition('/')[0]}/../models_for_scans.py"
SIZE = (3, 8, 32, 32)
PRESET = short(steps=150, attacks=("residual-recursion",))


class Blind(type(BY_NAME["residual-recursion"])):  # type: ignore[misc]
    """Finds clips of 16x16 alone, and grey where they are larger."""

    def invert(self, view, budget, seed):
        made = super().invert(view, budget, seed)
        if view.knowledge.clip_shape[-1] <= 16:
            return made
        return dataclasses.replace(made, clips=torch.full_like(made.clips, 0.5), activation=None, depth=())


@pytest.fixture(scope="module")
def results():
    attacks = tuple(Blind() if a.name == "residual-recursion" else a for a in PRESET.attacks)
    options = ScanOptions(model=f"{MODELS}:residual", input_shape=SIZE, preset="fast")
    return results_of(options, dataclasses.replace(PRESET, attacks=attacks), 0)


def at(net, size: int):
    target = target_of(net)
    return dataclasses.replace(target, input=dataclasses.replace(target.input, frames=8, height=size, width=size))


def test_a_network_with_an_average_reads_smaller_clips_with_the_same_weights():
    target = at(seeded(ResidualNet), 64)
    found = list(on_smaller_clips(target))
    assert [t.input.clip_shape for t in found] == [(4, 3, 32, 32), (4, 3, 16, 16)]
    for smaller in found:
        assert smaller.model is target.model
        assert [layer.name for layer in smaller.layers] == [layer.name for layer in target.layers]
        assert smaller.layers[0].input_shape[-1] == smaller.input.width


def test_a_network_of_one_size_reads_no_other():
    class Flat(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(3 * 8 * 32 * 32, 10)

        def forward(self, x):
            return self.head(x.flatten(1))

    target = at(seeded(pooled), 32)
    flat = dataclasses.replace(target, model=VideoModel(Flat().eval(), target.input), parts=())
    assert next(on_smaller_clips(flat), None) is None
    assert next(on_smaller_clips(at(seeded(pooled), 16)), None) is None  # smaller shows nothing but a blur
    assert next(on_smaller_clips(target), None) is not None


def test_time_is_kept_only_where_searches_are_short():
    target = at(seeded(ResidualNet), 64)
    cost = planning.AttackCost(multiplications=0.0, gradients=0.0)
    one = planning.DeepAttack(attack=BY_NAME["residual-recursion"], work=cost, first=1.0, step=0.1, steps=100)
    assert scaled_down.seconds_for_smaller(target, (one,), 100.0) == 0.0
    assert scaled_down.seconds_for_smaller(target, (one,), 10.0) == pytest.approx(2.5)
    assert scaled_down.seconds_for_smaller(target, (), 10.0) == 0.0
    # A hundred steps on each of two clips show what there is to be seen, whether or not whole runs would fit.
    endless = dataclasses.replace(one, steps=1000)
    assert scaled_down.seconds_for_smaller(target, (endless,), 22.1) == 0.0
    assert scaled_down.seconds_for_smaller(target, (endless,), 21.0) == pytest.approx(5.25)


@pytest.mark.slow
def test_smaller_clips_are_reported_as_what_they_are(results, tmp_path):
    found = results["scaled_down"]
    assert found["shape"] == (4, 3, 16, 16) or found["shape"] == [4, 3, 16, 16]
    assert found["shown"]
    (finding,) = found["findings"]
    assert finding["counts"]
    assert all(r["null"]["gain"] < 3.0 for r in finding["results"])
    # The verdict and the findings stay those of the audited size.
    assert results["verdict"]["word"] == "INCONCLUSIVE"
    assert any("smaller clips were recovered" in reason for reason in results["verdict"]["reasons"])
    assert all(f["grade"] in ("GIST", "NOT_SHOWN") for f in results["findings"])
    write(results, [tmp_path / "report.html"])
    page = (tmp_path / "report.html").read_text()
    assert "Not the audited size" in page
    assert "not the audited size" in scaled_line(results)
