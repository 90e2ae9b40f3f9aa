"""Single layers: attacked alone and left out, in the order of their promise, and which of them to keep back."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import bench_nets
import pytest
import torch
from bench_nets import SPEC, Transformer, flat, seeded, target_of
from torch import nn

from auditor.attack import PRESETS, Attack
from auditor.options import ScanOptions
from auditor.pipeline import Silent
from auditor.pipeline.context import observe_probes, set_up
from auditor.pipeline.documents import layer_attacks
from auditor.pipeline.documents.layer_attacks import layer_attacks_block, with_recoveries
from auditor.pipeline.documents.model import layer_blocks
from auditor.pipeline.documents.wording import actions
from auditor.pipeline.layerwise.partial_update import EqualEffort, Subject, recover
from auditor.pipeline.layerwise.rank_correlation import rank_correlation
from auditor.pipeline.layerwise.single_layers import by_promise
from auditor.pipeline.layerwise.study_layers import study_layers
from auditor.pipeline.layerwise.withholding import Audited, withhold
from auditor.pipeline.scan import load_target, scan
from auditor.pipeline.time_plan import Prepared
from auditor.pipeline.units import seconds_per_step
from auditor.probe import Galleries, shipped_probes
from auditor.records import Ceiling, Exposure, FederatedProtocol, Outcome, Reconstruction, Skipped
from auditor.score import Grade


def quick(*names: str):
    """Few steps, and of the searches those that are named."""
    fast = PRESETS["fast"]
    return replace(fast, steps=60, attacks=tuple(a for a in fast.attacks if a.closed_form or a.name in names))


def studied(net, wanted=None, seconds=9.0, attacks=("least-squares-matching",)):
    target = target_of(net)
    context = set_up(target, FederatedProtocol(), torch.device("cpu"), 0)
    probes = shipped_probes(SPEC, 3)
    observed = observe_probes(context, probes[:1])[0]
    galleries = Galleries(SPEC, probes)
    pace = seconds_per_step(context, observed)
    made = study_layers(
        context, (observed,), (), galleries, quick(*attacks), None, wanted, seconds, pace, Silent(), Ceiling()
    )
    return context, observed, made


@pytest.fixture(scope="module")
def tokens():
    return studied(seeded(Transformer), seconds=6.0)


def test_a_table_of_positions_gives_nothing_alone_and_everything_beside_its_embedding(tokens):
    _, _, made = tokens
    whole = made.found.whole
    assert (whole.attack, whole.grade) == ("patch-embedding", Grade.EXACT)
    layers = {one.layer.name: one for one in made.found.layers}
    assert len(layers) == 9
    for name in ("embed", "position"):
        own = next(one for one in made.found.layers if name in one.layer.parameters[0])
        assert own.alone.grade is Grade.NOT_SHOWN
        assert own.without.score.psnr < 25.0 < whole.score.psnr
    assert layers["head"].without.score.psnr == pytest.approx(whole.score.psnr, abs=0.5)


def test_what_is_worth_keeping_back_is_found_and_holds_against_the_battery(tokens):
    context, _, made = tokens
    held = made.withholding
    assert held.holds
    kept = {name for layer in held.confirmed.layers for name in layer.parameters}
    assert kept & {"position", "embed.weight"}
    assert held.confirmed.left.score.psnr < 25.0
    block = layer_attacks_block(made, None, ()).withholding
    share = sum(p.numel() for n, p in context.target.parameters.items() if n in kept)
    assert block.share == pytest.approx(share / sum(p.numel() for p in context.target.parameters.values()))
    assert f"{block.before.psnr:.1f} to {block.after.psnr:.1f} dB" in block.sentence


def test_results_say_of_every_layer_what_it_gave_and_how_large_its_gradient_is(tokens):
    context, observed, made = tokens
    blocks = with_recoveries(layer_blocks(context, None, "not asked"), context, observed.update.gradients, made)
    head = next(b for b in blocks if b.name == "head")
    gradients = [observed.update.gradients[n] for n in ("head.weight", "head.bias")]
    assert head.gradient == pytest.approx(float(torch.cat([g.flatten() for g in gradients]).norm()), rel=1e-5)
    assert head.recovery.without.attack == "patch-embedding"
    told = layer_attacks_block(made, None, ())
    assert told.attacked == told.of == len(blocks)
    # Exposure was not measured, so that there is no order of it; few layers gave anything away, and that is said.
    assert told.ranks.exposed is None
    assert -1.0 <= told.ranks.gradient <= 1.0
    assert "the rest are ties" in told.ranks.reason or "no layer alone" in told.ranks.reason


def test_layers_that_the_work_does_not_hold_are_left_out_least_promising_first():
    context, observed, made = studied(seeded(flat), wanted=2, seconds=3.0)
    order = [layer.index for layer in by_promise(made.found.subject, None, observed.update.gradients)]
    assert [one.layer.index for one in made.found.layers] == order[:2]
    assert made.found.left_out == "2 of 3 layers were asked for"
    tired = study_layers(
        context,
        (observed,),
        (),
        Galleries(SPEC, shipped_probes(SPEC, 1)),
        quick(),
        None,
        None,
        1e-3,
        0.01,
        Silent(),
        Ceiling(),
    )
    assert isinstance(tired, Skipped)
    assert tired.because == "out-of-budget"


def test_a_linear_layer_on_pixels_has_to_be_kept_back_for_it_gives_the_clip_alone():
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4 * 3 * 16 * 16, 24), nn.ReLU(), nn.Linear(24, 10)))
    _, _, made = studied(net, seconds=3.0)
    first = next(one for one in made.found.layers if one.layer.index == 0)
    assert (first.alone.attack, first.alone.grade) == ("linear-input", Grade.EXACT)
    assert first.alone.misfit < 1e-4
    assert made.withholding.confirmed.layers[0] is first.layer


@dataclass(frozen=True, kw_only=True)
class Ramp(Attack):
    """Always finds the same picture, whatever was sent."""

    name: str = "ramp"
    title: str = "A ramp"
    source: str = "this test"

    def obstacle(self, view):
        return None

    def invert(self, view, budget, seed):
        clips = torch.linspace(0.1, 0.9, 4 * 3 * 16 * 16).view(1, 4, 3, 16, 16)
        return Reconstruction(
            attack=self.name, clips=clips, labels=view.knowledge.labels, outcome=Outcome.CONVERGED, objective=9.0
        )


def test_the_misfit_of_a_layer_is_that_of_its_own_gradient():
    net = seeded(flat)
    context = set_up(target_of(net), FederatedProtocol(), torch.device("cpu"), 0)
    (probe,) = shipped_probes(SPEC, 1)
    observed = observe_probes(context, (probe,))[0]
    layer = context.target.layers[1]
    effort = EqualEffort(preset=replace(PRESETS["fast"], attacks=(Ramp(),)), seconds=9.0, steps=60)
    subject = Subject(context=context, probe=probe, gallery=Galleries(SPEC, (probe,))[probe.name])
    made = recover(subject, layer.parameters, effort, Silent(), "alone")
    clips = torch.linspace(0.1, 0.9, 4 * 3 * 16 * 16).view(1, 4, 3, 16, 16)
    sent = dict(context.target.model.named_parameters())
    own, theirs = (
        torch.autograd.grad(
            nn.functional.cross_entropy(context.target.model(x), torch.tensor(observed.labels)),
            [sent[name] for name in layer.parameters],
        )
        for x in (clips, observed.clips)
    )
    off = sum(float((a - b).square().sum()) for a, b in zip(own, theirs, strict=True))
    assert made.misfit == pytest.approx((off / sum(float(g.square().sum()) for g in theirs)) ** 0.5, rel=1e-4)


@pytest.mark.parametrize(
    ("psnr", "misfit", "short"), [(20.0, 0.2, True), (20.0, 0.02, False), (23.5, 0.2, False), (20.0, 0.031, True)]
)
def test_a_search_fell_short_where_it_left_what_its_layer_says_unused(psnr, misfit, short):
    exposed = Exposure(psnr=26.0, ceiling=27.0, prior=14.0, sigma=0.03, cap=27.0, determined=0.9)
    alone = SimpleNamespace(misfit=misfit, score=SimpleNamespace(psnr=psnr))
    assert layer_attacks._fell_short(alone, exposed) == short
    assert not layer_attacks._fell_short(alone, None)
    assert ("longer searches" in layer_attacks._why([5.0] * 4, [0.5] * 4, int(short))) == short


@pytest.mark.parametrize(
    ("predicted", "recovered", "expected"),
    [
        ([1.0, 2.0, 3.0, 4.0], [0.0, 0.1, 5.0, 9.0], 1.0),
        ([1.0, 2.0, 3.0, 4.0], [9.0, 5.0, 0.1, 0.0], -1.0),
        # 1 - 6 * 2 / (4 * 15): neighbours that changed places.
        ([1.0, 2.0, 3.0, 4.0], [0.1, 0.0, 5.0, 9.0], 0.8),
        ([1.0, None, 3.0, 4.0, 5.0], [0.0, 99.0, 1.0, 2.0, 3.0], 1.0),
        ([1.0, None, 3.0, math.nan], [0.0, 99.0, 1.0, 2.0], None),
        ([1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 2.0, 3.0], None),
        ([1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0], None),
    ],
)
def test_orders_are_compared_by_ranks(predicted, recovered, expected):
    found = rank_correlation(predicted, recovered)
    assert found is None if expected is None else found == pytest.approx(expected)


def test_what_to_keep_back_is_an_action_with_its_measured_effect(tokens):
    context, _, made = tokens
    block = layer_attacks_block(made, None, ()).withholding
    (first, *_) = actions(context, (), (), block)
    assert first["text"].startswith(f"Keep back {block.layers[0]}")
    assert f"{block.before.psnr:.1f} dB to {block.after.psnr:.1f} dB" in first["effect"]
    none = replace(block, layers=(), after=None)
    assert not any("Keep back" in action["text"] for action in actions(context, (), (), none))


def test_a_picture_from_a_part_of_the_update_forbids_a_pass(tokens):
    _, _, made = tokens
    assert made.shown
    dark = replace(made, found=replace(made.found, whole=made.withholding.confirmed.left, layers=()))
    assert not dark.shown


def test_sets_meet_the_work_of_the_audit_where_only_that_showed_a_picture(tokens):
    _, _, made = tokens
    weak = replace(made.found, whole=made.withholding.confirmed.left)
    preset = quick("least-squares-matching")
    nothing = withhold(weak, Audited(seconds={}, shown=False), preset, 1.0, Silent(), Ceiling())
    assert "from the whole update" in nothing.reason
    audited = Audited(seconds={"patch-embedding": 1.0}, shown=True, by=frozenset({"patch-embedding"}), spent=1.0)
    held = withhold(weak, audited, preset, 10.0, Silent(), Ceiling())
    # A trial asks the attack that showed the picture, and the full battery then confirms.
    assert held.holds
    assert any(layer.name in ("", "embed", "position") for layer in held.confirmed.layers)


@pytest.mark.slow
def test_a_scan_that_follows_the_advice_finds_no_picture(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(
        "import sys, torch\n"
        f"sys.path.insert(0, {str(Path(bench_nets.__file__).parent)!r})\n"
        "from bench_nets import Transformer\n"
        "def net():\n"
        "    torch.manual_seed(0)\n"
        "    made = Transformer().eval()\n"
        "    made.input_shape, made.layout = (3, 4, 16, 16), 'NCTHW'\n"
        "    return made\n"
    )

    def audit(clips, **options):
        given = ScanOptions(model=f"{file}:net", device="cpu", what_if=False, malicious_server=False, **options)
        preset = replace(quick("least-squares-matching", "feature-inversion"), probes=clips)
        prepared = Prepared(target=load_target(given, torch.device("cpu")), preset=preset, seconds=20.0)
        return scan(given, Silent(), prepared).results

    # With two clips the embedding alone seemed enough, and gave the third away.
    held = audit(3, layers=10**6)["layer_attacks"]["withholding"]
    assert held["before"]["grade"] == "EXACT"
    assert held["layers"]
    assert held["after"]["grade"] not in ("EXACT", "RECOGNISABLE")
    followed = audit(3, layers=0, seed=1, trainable=tuple(held["trainable"]))
    assert followed["model"]["parameters"]["sent_elements"] < followed["model"]["parameters"]["elements"]
    runs = [(r["probe"], f["attack"], r["grade"]) for f in followed["findings"] for r in f["results"]]
    assert not [run for run in runs if run[2] in ("EXACT", "RECOGNISABLE")], held["sentence"]
    assert len({r["probe"] for f in followed["findings"] for r in f["results"] if r["kind"] != "canary"}) == 3
