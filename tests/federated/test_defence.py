"""Defences: what the client sends, by plain formulas, and what of it an attacker who knows them simulates."""

import itertools
from dataclasses import replace

import pytest
import torch
from bench_nets import clip, flat, psnr, seeded, view_of

from auditor.attack import ATTACKS, GradientMatching, as_sent, restore_labels
from auditor.errors import UsageError
from auditor.federated import parse
from auditor.federated.defence import DEFENCES, defend
from auditor.pipeline.run_attack import run_attack
from auditor.records import Budget, FederatedProtocol, Reconstruction, Skipped

SPECS = ("top-k:0.25", "sign", "quantise:4")


def gradients(seed: int) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {"conv.weight": torch.randn(4, 3, 2, generator=g, dtype=torch.float64),
            "conv.bias": 0.1 * torch.randn(4, generator=g, dtype=torch.float64),
            "none": torch.zeros(0, dtype=torch.float64)}  # fmt: skip


OURS, TRUE = gradients(0), gradients(1)


def sent_under(*specs: str) -> dict[str, torch.Tensor]:
    return dict(defend([parse(s) for s in specs], TRUE, torch.Generator().manual_seed(0)))


def expected(spec: str, g: torch.Tensor) -> torch.Tensor:
    if spec == "sign":
        return (2 * (g > 0).to(g) - 1) * g.abs().sum() / g.numel()
    if spec == "quantise:4":
        step = g.abs().max() / 7
        return torch.floor(g / step + 0.5) * step
    least = g.abs().flatten().sort(descending=True).values[round(0.25 * g.numel()) - 1]
    return torch.where(g.abs() >= least, g, 0.0)


@pytest.mark.parametrize("spec", SPECS)
def test_a_client_sends_what_the_formula_says(spec):
    sent = sent_under(spec)
    for name in ("conv.weight", "conv.bias"):
        assert torch.allclose(sent[name], expected(spec, TRUE[name]), atol=1e-12)
    assert sent["none"].shape == (0,)
    assert torch.equal(TRUE["conv.weight"], gradients(1)["conv.weight"])


def test_at_least_one_entry_is_sent_and_the_whole_update_is_itself():
    assert [int((g != 0).sum()) for g in sent_under("top-k:0.001").values()] == [1, 1, 0]
    assert all(torch.equal(g, TRUE[n]) for n, g in sent_under("top-k:1").items())


@pytest.mark.parametrize("specs", [*itertools.permutations(SPECS, 1), *itertools.permutations(SPECS, 2), SPECS])
def test_at_the_truth_an_attacker_simulates_what_was_sent(specs):
    sent = sent_under(*specs)
    ours = as_sent([parse(s) for s in specs], TRUE, sent)
    for name, g in sent.items():
        assert torch.allclose(ours[name], g, atol=1e-12)
    assert not torch.allclose(TRUE["conv.weight"], sent["conv.weight"], atol=1e-3)


@pytest.mark.parametrize("spec", SPECS)
def test_the_slope_goes_straight_through(spec):
    sent = sent_under(spec)
    ours = {n: v.clone().requires_grad_(True) for n, v in OURS.items()}
    sum(g.sum() for g in as_sent([parse(spec)], ours, sent).values()).backward()
    for name, g in sent.items():
        kept = (g != 0).double() if spec.startswith("top-k") else torch.ones_like(g)
        assert torch.equal(ours[name].grad, kept)


@pytest.mark.parametrize("spec", [*SPECS, "top-k:1e-3"])
def test_a_defence_is_written_as_it_is_read(spec):
    assert parse(str(parse(spec))) == parse(spec)


@pytest.mark.parametrize(
    "spec", ["", "banana", "top-k", "top-k:0", "top-k:1.5", "top-k:nan", "sign:3", "quantise:1", "quantise:8.5"]
)
def test_what_is_no_defence_is_refused_in_one_line(spec):
    with pytest.raises(UsageError, match="--defence") as caught:
        parse(spec)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


def test_every_defence_says_how_it_is_written():
    assert len({kind.name for kind in DEFENCES}) == len(DEFENCES)
    assert all(kind.form.startswith(kind.name) for kind in DEFENCES)


def defended(spec: str):
    """A view of one clip under a defence, and the clip."""
    truth = clip(5)
    view = view_of(seeded(flat), truth[None], [3])
    protocol: FederatedProtocol = replace(view.client.protocol, defence=(spec,))
    client = view.client.under(protocol)
    update = client.update(truth[None], client.targets([3]))
    knowledge = replace(view.knowledge, defences=client.defences)
    return replace(view, client=client, update=update, knowledge=knowledge), truth


@pytest.mark.parametrize("spec", SPECS)
def test_a_client_applies_the_defences_of_its_protocol_once(spec):
    view, truth = defended(spec)
    plain = view.client(truth[None], view.client.targets([3]))
    for name, g in view.update.gradients.items():
        assert torch.allclose(g, expected(spec, plain[name]), atol=1e-6 * float(g.abs().max()))
    assert GradientMatching().measure(view, truth[None], (3,)) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("name", ["linear-input", "least-squares-matching", "feature-inversion", "layer-recursion"])
def test_an_attack_that_does_not_know_the_defence_is_refused(name):
    attack = next(a for a in ATTACKS if a.name == name)
    view, _ = defended("sign")
    made = run_attack(attack, view, Budget(seconds=10.0, steps=60), 0)
    assert isinstance(made, Skipped)
    assert made.because == "not-applicable"
    assert made.reason == "it does not know the defence sign; its result would say nothing"


def test_no_label_rule_is_trusted_under_a_defence():
    view, _ = defended("quantise:8")
    found = restore_labels(view)
    assert isinstance(found, Skipped)
    assert "quantise:8" in found.reason


def matched(view, truth) -> float:
    made = run_attack(GradientMatching(), view, Budget(seconds=120, steps=60), 0)
    assert isinstance(made, Reconstruction)
    return psnr(made.clips[0], truth)


def test_gradient_matching_recovers_a_clip_from_half_of_the_entries():
    view, truth = defended("top-k:0.5")
    assert matched(view, truth) > psnr(torch.full_like(truth, 0.5), truth) + 3.0


@pytest.mark.parametrize("spec", ["top-k:0.25", "sign"])
def test_who_knows_the_defence_recovers_more(spec):
    view, truth = defended(spec)
    plain = replace(view, knowledge=replace(view.knowledge, defences=()))
    assert matched(view, truth) > matched(plain, truth) + 0.1
