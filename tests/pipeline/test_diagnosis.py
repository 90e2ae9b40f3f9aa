"""The run that starts at the truth, and the budget curve: in a scan, and on nets whose answer is known."""

import itertools
from dataclasses import replace

import pytest
import torch
from short_scans import scanning

from auditor.attack import BY_NAME, PRESETS, GradientMatching
from auditor.pipeline import ScanOptions, Silent, scan
from auditor.pipeline.context import view_of
from auditor.pipeline.credibility import budget_curve, diagnose
from auditor.pipeline.scan import load_target
from auditor.pipeline.training import loss_of, observe_all, trained
from auditor.probe import shipped_probes
from auditor.records import Budget, Outcome, Reconstruction
from auditor.report.outputs import write
from auditor.results.reading import check_results
from auditor.score import Conclusion, psnr

NETS = """
import torch
from short_scans import scanning
from torch import nn

def wide():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(3, 16, 3, padding=1, stride=(1, 2, 2)), nn.GELU(), nn.Flatten(),
                         nn.Linear(16 * 4 * 4 * 4, 6))

def narrow():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(3, 1, 3, padding=1, stride=2), nn.GELU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(),
                         nn.Linear(1, 6))
"""
GENEROUS = Budget(seconds=300.0, steps=120, checkpoints=6)


@pytest.fixture
def context(tmp_path):
    """Make the set-up of an audit of one of the nets, with one client's update."""
    path = tmp_path / "nets.py"
    path.write_text(NETS)

    def call(name, **change):
        options = ScanOptions(model=f"{path}:{name}", input_shape=(3, 4, 8, 8), layout="NCTHW", device="cpu", **change)
        target = load_target(options, torch.device("cpu"))
        made = trained(target, options, loss_of(options.loss, target))
        (observed,) = observe_all(made, shipped_probes(target.input, 1))
        return made, observed

    return call


def told(context, observed, attack, made, exposure=None, exact=False):
    view = view_of(context, observed)
    return diagnose(context, observed, attack, view, made, GENEROUS, exact=exact, exposure=exposure)


def test_where_the_update_tells_the_clip_the_truth_stays_and_a_crippled_search_is_the_optimisers_failure(context):
    made, observed = context("wide")
    attack = GradientMatching(tau=0.0)
    # A search that stopped at once: far from the truth at a high objective, and said to have converged.
    ran = attack.invert(view_of(made, observed), GENEROUS, 0)
    early = replace(ran, clips=ran.checkpoints[0].clips.float(), objective=1.0, outcome=Outcome.CONVERGED)
    found = told(made, observed, attack, early)
    assert found.update_at_truth < 1e-6
    assert found.objective_at_truth is not None
    assert abs(found.objective_at_truth) < 1e-6
    assert found.truth_started is not None
    assert found.truth_started.psnr > 25.0
    assert found.truth_started.steps == 60
    assert found.conclusion is Conclusion.OPTIMISER_FAILED


def test_where_the_update_tells_little_the_truth_drifts_away_and_information_is_missing(context):
    made, observed = context("narrow")
    attack = GradientMatching(tau=0.0)
    ran = attack.invert(view_of(made, observed), GENEROUS, 0)
    found = told(made, observed, attack, replace(ran, outcome=Outcome.CONVERGED), exposure=15.0)
    assert found.truth_started is not None
    wide, clip = context("wide")
    stays = told(wide, clip, attack, replace(ran, outcome=Outcome.CONVERGED)).truth_started
    assert stays is not None
    # The same truth, search and steps: a net that sends more holds the clip, one that sends less lets it go.
    assert found.truth_started.psnr < stays.psnr - 3.0
    assert found.conclusion in (Conclusion.INFORMATION_MISSING, Conclusion.UNDECIDED)


def test_labels_that_are_not_the_clips_are_told(context):
    made, observed = context("wide")
    attack = GradientMatching(tau=0.0)
    wrong = ((int(observed.labels[0]) + 1) % 6,)  # type: ignore[arg-type]
    ran = attack.invert(view_of(made, observed), GENEROUS, 0)
    assert isinstance(ran, Reconstruction)
    found = told(made, observed, attack, replace(ran, labels=wrong, outcome=Outcome.CONVERGED))
    assert found.conclusion is Conclusion.WRONG_LABELS


def test_what_is_recovered_or_cannot_be_started_again_is_said_without_a_run(context):
    made, observed = context("wide")
    solved = Reconstruction(
        attack="x", clips=observed.clips, labels=observed.labels, outcome=Outcome.SOLVED, objective=0.0
    )
    found = told(made, observed, GradientMatching(), solved, exact=True)
    assert (found.conclusion, found.truth_started) == (Conclusion.RECOVERED, None)
    assert "recovered" in found.because


def test_a_generator_that_cannot_be_set_to_a_clip_is_not_started_at_one(context):
    made, observed = context("wide")
    ran = replace(
        GradientMatching(tau=0.0).invert(view_of(made, observed), replace(GENEROUS, steps=60), 0),
        outcome=Outcome.CONVERGED,
    )
    found = told(made, observed, BY_NAME["deep-prior"], ran)
    assert (found.truth_started, found.conclusion) == (None, Conclusion.UNDECIDED)
    assert "cannot stand for" in found.because
    modes = told(made, observed, BY_NAME["gradient-matching-modes"], ran).truth_started
    assert modes is not None
    assert modes.psnr > 20.0


def test_too_little_time_is_a_reason_and_no_conclusion(context):
    made, observed = context("wide")
    attack = GradientMatching(tau=0.0)
    ran = replace(attack.invert(view_of(made, observed), GENEROUS, 0), outcome=Outcome.CONVERGED)
    found = diagnose(
        made, observed, attack, view_of(made, observed), ran, Budget(seconds=0.0, steps=60), exact=False, exposure=None
    )
    assert found.conclusion is Conclusion.UNDECIDED
    assert "one step takes" in found.because


def test_a_budget_curve_is_scored_afterwards_and_ends_where_the_search_ended(context):
    made, observed = context("wide")
    attack = GradientMatching(tau=0.0)
    ran = attack.invert(view_of(made, observed), GENEROUS, 0)
    curve = budget_curve(observed, ran)
    assert [p.step for p in curve] == [20, 40, 60, 80, 100, 120]
    assert curve[-1].psnr == pytest.approx(float(psnr(observed.clips[0], ran.clips[0])), abs=0.05)
    assert all(a.objective >= b.objective for a, b in itertools.pairwise(curve))
    silent = attack.invert(view_of(made, observed), replace(GENEROUS, checkpoints=0), 0)
    assert silent.checkpoints == ()
    assert torch.equal(silent.clips, ran.clips)


def test_a_tournaments_checkpoints_never_get_worse_and_share_one_count_of_steps(context):
    made, observed = context("wide")
    attack = replace(GradientMatching(tau=0.0), name="t", configurations=(), smooth_configurations=())
    way = attack.own_configuration
    attack = replace(attack, configurations=(way, replace(way, name="other")))
    ran = attack.invert(view_of(made, observed), replace(GENEROUS, steps=300), 0)
    steps = [c.step for c in ran.checkpoints]
    assert len(steps) > 6
    assert steps == sorted(steps)
    objectives = [c.objective for c in ran.checkpoints]
    assert objectives == sorted(objectives, reverse=True)
    assert objectives[-1] == pytest.approx(ran.objective)


def test_a_scan_of_the_larger_presets_tells_why_its_best_search_stopped(context, tmp_path, monkeypatch):
    context("wide")  # writes the file
    small = replace(
        PRESETS["standard"], attacks=(GradientMatching(tau=0.0),), steps=60, probes=2, seeds=1, what_if=False
    )
    monkeypatch.setitem(PRESETS, "standard", small)
    options = ScanOptions(
        model=f"{tmp_path / 'nets.py'}:wide", input_shape=(3, 4, 8, 8), layout="NCTHW", device="cpu",
        preset="standard", max_time=300.0,
    )  # fmt: skip
    with scanning(small, enhanced=0):
        results = dict(scan(options, Silent()).results)
    check_results(results)
    (finding,) = results["findings"]
    told = finding["diagnosis"]
    assert told["conclusion"]["code"] in Conclusion.__members__
    assert told["probe"] == "park_walker"
    assert told["update_at_truth"] < 1e-5
    assert all(len(r["curve"]) == 6 for r in finding["results"])
    write(results, [tmp_path / "report.html"])
    page = (tmp_path / "report.html").read_text()
    assert "Why it stopped there" in page
    assert "PSNR of the best clip so far" in page
