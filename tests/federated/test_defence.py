"""Defences: what the client sends, by plain formulas, and what of it an attacker who knows them simulates."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from bench_nets import clip, flat, psnr, seeded, view_of

from auditor.attack import ATTACKS, GradientMatching, as_sent, restore_labels
from auditor.errors import UsageError
from auditor.federated import parse, parse_all
from auditor.federated.defence import DEFENCES, defend
from auditor.pipeline.run_attack import run_attack
from auditor.records import Budget, FederatedProtocol, LabelGuess, Reconstruction, Skipped, deviation_of

# What draws nothing: the attacker's form gives back what was sent.
SPECS = ("top-k:0.25", "sign", "quantise:4", "clip:0.5", "clamp:0.7", "prune:0.6", "float16")
DRAWN = ("gaussian:0.1", "laplace:0.1", "random-k:0.25")


def gradients(seed: int) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {"conv.weight": torch.randn(4, 3, 2, generator=g, dtype=torch.float64),
            "conv.bias": 0.1 * torch.randn(4, generator=g, dtype=torch.float64),
            "none": torch.zeros(0, dtype=torch.float64)}  # fmt: skip


OURS, TRUE = gradients(0), gradients(1)


def sent_under(*specs: str) -> dict[str, torch.Tensor]:
    return dict(defend([parse(s) for s in specs], TRUE, torch.Generator().manual_seed(0)))


def expected(spec: str, name: str, of: dict[str, torch.Tensor]) -> torch.Tensor:
    """The formulas again, in numpy."""
    g = of[name].numpy()
    every = np.concatenate([v.numpy().ravel() for v in of.values()])
    kind, _, number = spec.partition(":")
    if kind == "sign":
        made = np.where(g > 0, 1.0, -1.0) * np.abs(g).sum() / g.size
    elif kind == "quantise":
        step = np.abs(g).max() / 7
        made = np.floor(g / step + 0.5) * step
    elif kind == "clip":
        made = g * min(1.0, float(number) / np.sqrt((every**2).sum()))
    elif kind == "clamp":
        made = np.minimum(np.maximum(g, -float(number)), float(number))
    elif kind == "float16":
        made = g.astype(np.float16).astype(np.float64)
    elif kind == "prune":
        made = np.where(np.abs(g) >= np.sort(np.abs(every))[round(float(number) * every.size)], g, 0.0)
    else:
        made = np.where(np.abs(g) >= np.sort(np.abs(g).ravel())[::-1][round(0.25 * g.size) - 1], g, 0.0)
    return torch.from_numpy(made)


@pytest.mark.parametrize("spec", SPECS)
def test_a_client_sends_what_the_formula_says(spec):
    sent = sent_under(spec)
    for name in ("conv.weight", "conv.bias"):
        assert torch.allclose(sent[name], expected(spec, name, TRUE), atol=1e-12)
    assert sent["none"].shape == (0,)
    assert torch.equal(TRUE["conv.weight"], gradients(1)["conv.weight"])


def test_at_least_one_entry_is_sent_and_the_whole_update_is_itself():
    assert [int((g != 0).sum()) for g in sent_under("top-k:0.001").values()] == [1, 1, 0]
    assert all(torch.equal(g, TRUE[n]) for n, g in sent_under("top-k:1").items())


@pytest.mark.parametrize("specs", [*itertools.permutations(SPECS, 1), *itertools.permutations(SPECS[:4], 2), SPECS])
def test_at_the_truth_an_attacker_simulates_what_was_sent(specs):
    sent = sent_under(*specs)
    ours = as_sent([parse(s) for s in specs], TRUE, sent)
    for name, g in sent.items():
        assert torch.allclose(ours[name], g, atol=1e-12)
    assert not torch.allclose(TRUE["conv.weight"], sent["conv.weight"], atol=1e-5)


@pytest.mark.parametrize("spec", ["sign", "float16"])
def test_the_slope_goes_straight_through(spec):
    sent = sent_under(spec)
    ours = {n: v.clone().requires_grad_(True) for n, v in OURS.items()}
    sum(g.sum() for g in as_sent([parse(spec)], ours, sent).values()).backward()
    for name in sent:
        assert torch.equal(ours[name].grad, torch.ones_like(ours[name]))


def test_rounding_is_an_interval_around_what_was_sent():
    sent = sent_under("quantise:3")
    ours = {n: v.clone().requires_grad_(True) for n, v in OURS.items()}
    made = as_sent([parse("quantise:3")], ours, sent)
    sum(g.sum() for g in made.values()).backward()
    for name, g in sent.items():
        theirs, mine = g.numpy(), ours[name].detach().numpy()
        half = np.abs(theirs).max(initial=0.0) / 3 / 2
        off = np.sign(mine - theirs) * np.maximum(np.abs(mine - theirs) - half, 0)
        assert np.allclose(made[name].detach().numpy(), theirs + off, atol=1e-12)
        assert np.array_equal(ours[name].grad.numpy(), (np.abs(off) > 0).astype(float))


@pytest.mark.parametrize("scale", [1.0, 0.01])
@pytest.mark.parametrize("spec", ["top-k:0.25", "prune:0.6"])
def test_what_was_not_sent_counts_where_it_exceeds_what_was(spec, scale):
    """All is in units of what was sent: a later defence may have scaled it."""
    sent = {n: scale * g for n, g in sent_under(spec).items()}
    ours = {n: v.clone().requires_grad_(True) for n, v in OURS.items()}
    made = as_sent([parse(spec)], ours, sent)
    sum(g.sum() for g in made.values()).backward()
    flat_sent, flat_ours = (np.concatenate([v.detach().numpy().ravel() for v in d.values()]) for d in (sent, ours))
    for name, g in sent.items():
        theirs, mine = g.numpy(), ours[name].detach().numpy()
        group = (theirs.ravel(), mine.ravel()) if spec.startswith("top-k") else (flat_sent, flat_ours)
        of = group[0] != 0
        if not of.any():
            continue
        least = np.abs(group[0][of]).min() * np.linalg.norm(group[1][of]) / np.linalg.norm(group[0][of])
        much = np.sign(mine) * np.maximum(np.abs(mine) - least, 0)
        assert np.allclose(made[name].detach().numpy(), np.where(theirs != 0, mine, much), atol=1e-12)
        assert np.array_equal(ours[name].grad.numpy(), ((theirs != 0) | (np.abs(mine) > least)).astype(float))


@pytest.mark.parametrize("spec", [*SPECS, *DRAWN, "top-k:1e-3", "gaussian:4.8448052e-05", "secure-aggregation:3",
             "exclude:head.*", "server:clip:2"])  # fmt: skip
def test_a_defence_is_written_as_it_is_read(spec):
    assert parse(str(parse(spec))) == parse(spec)


@pytest.mark.parametrize(
    "spec", ["", "banana", "top-k", "top-k:0", "top-k:1.5", "top-k:nan", "sign:3", "quantise:1", "quantise:8.5",
             "gaussian:0", "gaussian:inf", "laplace:-1", "clip", "prune:1", "exclude", "exclude:", "float16:8",
             "secure-aggregation:1", "secure-aggregation:65", "server:hope", "server", "clamp:1e300",
             "clip:1e-40"],
)  # fmt: skip
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


@pytest.mark.parametrize("spec", ["top-k:0.25", "sign", "quantise:4", "clip:0.01", "float16"])
def test_a_client_applies_the_defences_of_its_protocol_once(spec):
    view, truth = defended(spec)
    plain = view.client(truth[None], view.client.targets([3]))
    for name, g in view.update.gradients.items():
        assert torch.allclose(g, expected(spec, name, plain).float(), atol=1e-6 * float(g.abs().max()))
    assert GradientMatching().measure(view, truth[None], (3,)) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "spec"),
    [("layer-recursion", "sign"), ("feature-inversion", "gaussian:0.1"), ("layer-recursion", "top-k:0.5")],
)
def test_an_attack_that_does_not_know_the_defence_is_refused(name, spec):
    attack = next(a for a in ATTACKS if a.name == name)
    view, _ = defended(spec)
    made = run_attack(attack, view, Budget(seconds=10.0, steps=60), 0)
    assert isinstance(made, Skipped)
    assert made.because == "not-applicable"
    assert made.reason == f"it does not know the defence {spec}; its result would say nothing"


@pytest.mark.parametrize("spec", SPECS)
def test_one_label_is_read_off_signs_that_a_defence_leaves(spec):
    found = restore_labels(defended(spec)[0])
    assert isinstance(found, LabelGuess)
    assert (found.labels, found.certain) == ((3,), True)


def test_no_label_rule_is_trusted_under_noise():
    found = restore_labels(defended("gaussian:0.001")[0])
    assert isinstance(found, Skipped)
    assert "gaussian:0.001" in found.reason


@pytest.mark.parametrize("spec", DRAWN)
def test_draws_are_the_clients_own_and_the_same_every_time(spec):
    view, truth = defended(spec)
    again = view.client.update(truth[None], view.client.targets([3])).gradients
    other = view.client.with_seed(7).update(truth[None], view.client.targets([3])).gradients
    for name, g in view.update.gradients.items():
        assert torch.equal(again[name], g)
        assert not torch.equal(other[name], g)


@pytest.mark.parametrize(
    ("spec", "deviation", "fourth"), [("gaussian:0.2", 0.2, 3.0), ("laplace:0.2", 0.2 * 2**0.5, 6.0)]
)
def test_noise_has_the_deviation_and_the_tails_that_were_asked_for(spec, deviation, fourth):
    """Laplace's fourth moment is 24 b^4 = 6 variances squared, a normal one's 3."""
    zero = {"a": torch.zeros(400, 500, dtype=torch.float64), "b": torch.zeros(0, dtype=torch.float64)}
    made = parse(spec).apply(zero, torch.Generator().manual_seed(0))
    n, noise = 200_000, made["a"].numpy()
    assert abs(noise.mean()) < 5 * deviation / n**0.5
    assert noise.std() == pytest.approx(deviation, rel=0.01)
    assert (noise**4).mean() / noise.var() ** 2 == pytest.approx(fourth, rel=0.1)
    assert parse(spec).deviation(zero)["a"] == pytest.approx(deviation)
    assert made["b"].shape == (0,)


def test_a_random_share_is_sent_as_it_is_and_seen_by_its_zeros():
    sent = sent_under("random-k:0.25")
    for name, g in sent.items():
        kept = g != 0
        assert int(kept.sum()) == (0 if not g.numel() else max(1, round(0.25 * g.numel())))
        assert torch.equal(g[kept], TRUE[name][kept])
        assert torch.equal(as_sent([parse("random-k:0.25")], TRUE, sent)[name], g)


@pytest.mark.parametrize("spec", ["quantise:4", "float16", "gaussian:0.1", "sign"])
def test_the_deviation_that_attackers_reckon_with_is_that_of_what_was_sent(spec):
    normal = {"a": torch.randn(300, 300, generator=torch.Generator().manual_seed(3), dtype=torch.float64)}
    sent = parse(spec).apply(normal, torch.Generator().manual_seed(4))
    found = parse(spec).deviation(sent)["a"]
    # What is left of the entries after the best linear guess from what was sent, relative to the guess's slope.
    x, y = normal["a"].numpy().ravel(), sent["a"].numpy().ravel()
    slope = (x * y).mean() / (x * x).mean()
    assert found == pytest.approx(float(((y - slope * x) ** 2).mean() ** 0.5 / slope), rel=0.03)


def test_parameters_are_left_out_whole():
    assert list(sent_under("exclude:*.bias")) == ["conv.weight", "none"]
    assert list(sent_under("exclude:conv*", "clip:1")) == ["none"]


def test_defences_at_the_server_change_nothing_that_an_honest_one_sees():
    view, truth = defended("server:gaussian:5")
    bare = view.client(truth[None], view.client.targets([3]))
    assert view.knowledge.defences == ()
    assert all(torch.equal(g, bare[n]) for n, g in view.update.gradients.items())
    assert "without that" in parse("server:gaussian:5").told


def several(*specs: str, **more):
    """A view of three clients' average, two clips each, and the clips."""
    truths = torch.stack([clip(5 + k) for k in range(6)])
    labels = [3, 1, 4, 0, 5, 9]
    view = view_of(seeded(flat), truths, labels)
    protocol = replace(view.client.protocol, defence=specs, clients=3, batch=6, **more)
    client = view.client.under(protocol)
    return client, truths, client.targets(labels), view.client


@pytest.mark.parametrize("training", [{}, {"algorithm": "FedAvg", "local_epochs": 2, "local_batch": 1}])
def test_secure_aggregation_shows_the_average_of_clients(training):
    client, clips, labels, one = several("secure-aggregation:3", **training)
    alone = one.under(replace(client.protocol, clients=1, batch=2, defence=()))
    each = [alone(x, y) for x, y in zip(clips.split(2), labels.split(2), strict=True)]
    for name, g in client(clips, labels).items():
        assert torch.allclose(g, sum(e[name] for e in each) / 3, atol=1e-7)


def test_every_client_is_clipped_by_itself_before_the_sum():
    client, clips, labels, one = several("clip:0.001", "secure-aggregation:3")
    alone = one.under(replace(client.protocol, clients=1, batch=2, defence=("clip:0.001",)))
    each = [alone.update(x, y).gradients for x, y in zip(clips.split(2), labels.split(2), strict=True)]
    sent = client.update(clips, labels).gradients
    for name, g in sent.items():
        assert torch.allclose(g, sum(e[name] for e in each) / 3, atol=1e-9)
    ours = as_sent(client.defences, client(clips, labels), sent)
    assert all(torch.allclose(ours[n], g, atol=1e-9) for n, g in sent.items())


def test_noise_of_several_clients_is_averaged():
    client, clips, labels, _ = several("gaussian:3", "secure-aggregation:3")
    sent, bare = client.update(clips, labels).gradients, client(clips, labels)
    noise = torch.cat([(g - bare[n]).flatten() for n, g in sent.items()])
    assert float(noise.std()) == pytest.approx(3 / 3**0.5, rel=0.03)
    assert deviation_of(client.defences, bare, 3)["0.weight"] == pytest.approx(3 / 3**0.5)


def test_a_random_share_is_seen_whatever_parameters_are_left_out_behind_it():
    sent = sent_under("random-k:0.25", "exclude:conv*")
    assert sent
    ours = as_sent([parse("random-k:0.25"), parse("exclude:conv*")], TRUE, sent)
    assert ours.keys() == sent.keys()
    assert all(torch.equal(ours[n], g) for n, g in sent.items())


def test_noise_in_front_of_a_scaled_parameter_is_scaled_with_it():
    update = {"a": torch.randn(40, 50, generator=torch.Generator().manual_seed(9), dtype=torch.float64)}
    defences = [parse("gaussian:5"), parse("qsgd:15,biased")]
    sent = defend(defences, update, torch.Generator().manual_seed(1))
    off = sent["a"] - as_sent(defences, update, sent)["a"]
    assert deviation_of(defences, sent)["a"] == pytest.approx(float(off.std()), rel=0.1)


def test_updates_are_added_up_once():
    with pytest.raises(UsageError, match="more than once"):
        parse_all(["secure-aggregation:2", "secure-aggregation:3"])


def test_what_is_kept_back_is_trained_all_the_same():
    """The head's update of local training depends on whether the layers below it move."""
    truth = clip(5)
    view = view_of(seeded(flat), truth[None], [3])
    training = {"algorithm": "FedAvg", "local_epochs": 3, "learning_rate": 0.5}
    every = replace(view.client.protocol, **training)
    head = tuple(n for n in every.sent if n.startswith("5."))
    below = tuple(n for n in every.sent if n not in head)
    labels = view.client.targets([3])
    whole = view.client.under(every)(truth[None], labels)
    kept = view.client.under(replace(every, sent=head, kept_back=below))(truth[None], labels)
    frozen = view.client.under(replace(every, sent=head))(truth[None], labels)
    assert list(kept) == list(head)
    assert all(torch.equal(kept[n], whole[n]) for n in head)
    assert not torch.allclose(kept["5.weight"], frozen["5.weight"], rtol=1e-3)


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
