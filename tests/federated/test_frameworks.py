"""Frameworks' defences by their own names: the update equals what their formulas say, written again in numpy."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from bench_nets import clip, flat, seeded, view_of

from auditor.errors import UsageError
from auditor.federated import ClientTraining, parse_all
from auditor.federated.defence import defend
from auditor.federated.frameworks import PRESETS, form
from auditor.records import at_client, deviation_of


def gradients(scale: float = 1.0) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    return {
        "b.weight": scale * torch.randn(40, 30, 5, generator=g, dtype=torch.float64),
        "a.bias": 0.1 * scale * torch.randn(40, generator=g, dtype=torch.float64),
    }


TRUE = gradients()
NORM = math.sqrt(sum(float((g**2).sum()) for g in TRUE.values()))


def sent_under(spec: str, update=TRUE, **training) -> dict[str, np.ndarray]:
    defences = at_client(parse_all([spec], ClientTraining(**training)))
    return {n: g.numpy() for n, g in defend(defences, update, torch.Generator().manual_seed(3)).items()}


def written(spec: str, **training) -> list[str]:
    return [str(d) for d in parse_all([spec], ClientTraining(**training))]


def every(update) -> np.ndarray:
    return np.concatenate([np.asarray(update[n]).ravel() for n in sorted(update)])


def test_flower_local_dp_clips_and_adds_noise_of_the_classical_mechanism():
    sent = sent_under("flower-local-dp:clipping_norm=2,sensitivity=1e-4,epsilon=10,delta=1e-5")
    sigma = 1e-4 * np.sqrt(2 * np.log(1.25 / 1e-5)) / 10
    noise = every(sent) - every(TRUE) * min(1.0, 2 / NORM)
    assert noise.std() == pytest.approx(sigma, rel=0.03)
    assert sigma == pytest.approx(4.845e-5, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "sees"),
    [("flower-client-fixed", ["clip:2.5", "server:gaussian:0.2"]),
     ("flower-server-fixed", ["server:clip:2.5", "server:gaussian:0.2"])],
)  # fmt: skip
def test_flowers_central_noise_is_added_after_averaging(name, sees):
    spec = f"{name}:noise_multiplier=0.8,clipping_norm=2.5,num_sampled_clients=10"
    assert written(spec) == sees
    factor = min(1.0, 2.5 / NORM) if "client" in name else 1.0
    assert np.allclose(every(sent_under(spec)), every(TRUE) * factor, rtol=1e-12)


@pytest.mark.parametrize("name", ["flower-client-adaptive", "flower-server-adaptive"])
def test_flowers_adaptive_clipping_begins_at_its_first_norm(name):
    clipped, noise = written(f"{name}:noise_multiplier=1,num_sampled_clients=100")
    # Theorem 1 of Andrew et al.: z = (1 - (2 * 100 / 20)^-2)^-1/2.
    assert float(noise.removeprefix("server:gaussian:")) == pytest.approx((1 - 0.01) ** -0.5 * 0.1 / 100)
    assert clipped.removeprefix("server:") == "clip:0.1"
    assert clipped.startswith("server:") == ("server" in name)


def test_tff_begins_at_its_first_norm_too():
    spec = "tff-gaussian-adaptive:noise_multiplier=1,clients_per_round=100"
    clipped, noise = written(spec)
    assert clipped == "server:clip:0.1"
    assert float(noise.removeprefix("server:gaussian:")) == pytest.approx((1 - 0.01) ** -0.5 * 0.1 / 100)
    assert np.array_equal(every(sent_under(spec)), every(TRUE))


def test_flowers_secure_aggregation_rounds_at_random_and_shows_the_sum():
    rounding, total = parse_all(["flower-secagg-plus:num_clients=5"])
    assert str(total) == "secure-aggregation:5"
    many = {"w": torch.full((200_000,), 1.234567, dtype=torch.float64), "far": torch.tensor([9.0, -20.0])}
    made = rounding.apply(many, torch.Generator().manual_seed(0))
    step = 16 / 2**22
    place = (made["w"].numpy() + 8) / step
    assert np.allclose(place, np.round(place), atol=1e-6)
    assert set(np.unique(np.round(place))) == {math.floor((1.234567 + 8) / step), math.floor((1.234567 + 8) / step) + 1}
    assert made["w"].mean().item() == pytest.approx(1.234567, abs=step / 50)
    assert made["far"].tolist() == pytest.approx([8.0, -8.0])
    spread = {"w": torch.linspace(-1, 1, 100_001, dtype=torch.float64)}
    error = rounding.apply(spread, torch.Generator().manual_seed(1))["w"] - spread["w"]
    assert float(error.std()) == pytest.approx(rounding.deviation(spread)["w"], rel=0.02)


@pytest.mark.parametrize("steps", [1, 4])
def test_nvflare_percentile_privacy(steps):
    update = gradients(0.02)
    sent = sent_under("nvflare-percentile-privacy", update, steps=steps)
    change = {n: g.numpy() / steps for n, g in update.items()}
    cutoff = np.percentile(np.abs(every(change)), 10)
    for name, d in change.items():
        d = d.copy()
        d[(d > -cutoff) & (d < cutoff)] = 0.0
        assert np.allclose(sent[name], np.clip(d, -0.01, 0.01) * steps, atol=1e-15)
    assert (every(sent) == 0).mean() == pytest.approx(0.1, abs=1e-3)


def test_nvflare_svt_privacy_releases_a_share_that_is_mostly_noise():
    """Counts and moments of the released entries, by the formulas of the source."""
    update = {"w": torch.full((30_000,), 4e-6, dtype=torch.float64), "b": torch.full((10_000,), 3.0)}
    gamma, noise = 1e-5, 2e-5 / 0.1
    sent = sent_under("nvflare-svt-privacy", update)
    released = every(sent) != 0
    # 4,000 draws with replacement from a pool of about half of all 40,000: few are drawn twice.
    assert 3_000 < released.sum() <= 4_000
    for name, cut in (("w", 4e-6), ("b", gamma)):
        seen = sent[name][sent[name] != 0]
        error = noise * math.sqrt(2.0)
        assert seen.mean() == pytest.approx(cut, abs=5 * error / len(seen) ** 0.5)
        assert seen.std() == pytest.approx(error, rel=0.1)
        # Of Laplace's distribution: its mean magnitude is its scale.
        assert np.abs(seen - cut).mean() == pytest.approx(noise, rel=0.1)
    (defence,) = parse_all(["nvflare-svt-privacy"])
    simulated = defence.simulate(update, {n: torch.from_numpy(g) for n, g in sent.items()})
    assert float(simulated["w"].max()) == 4e-6
    assert float(simulated["b"].max()) == pytest.approx(gamma)
    assert int((simulated["w"] != 0).sum()) == int((sent["w"] != 0).sum())
    assert defence.deviation(simulated)["w"] == pytest.approx(noise * math.sqrt(2.0))


def test_nvflare_exclude_vars_searches_names_by_a_regular_expression():
    assert list(sent_under("nvflare-exclude-vars:exclude_vars=^b|head,x")) == ["a.bias"]
    assert list(sent_under("nvflare-exclude-vars:exclude_vars=bias$")) == ["b.weight"]


def test_nvflare_model_quantizer_sends_half_precision():
    for name, g in sent_under("nvflare-model-quantizer").items():
        assert np.array_equal(g, TRUE[name].numpy().astype(np.float16).astype(np.float64))
    assert sent_under("nvflare-model-quantizer", {"a": torch.tensor([1e6])})["a"].tolist() == [65504.0]


def test_nvflare_gaussian_privacy_takes_its_noise_from_the_update():
    update = {**TRUE, "zeros": torch.zeros(50_000, dtype=torch.float64)}
    sent = sent_under("nvflare-gaussian-privacy", update)
    size = np.abs(every(update))
    sigma = 0.1 * np.percentile(size[size > 0], 95)
    assert (every(sent) - every(update)).std() == pytest.approx(sigma, rel=0.02)
    defences = parse_all(["nvflare-gaussian-privacy"])
    found = deviation_of(defences, {n: torch.from_numpy(g) for n, g in sent.items() if n != "zeros"})
    assert found["b.weight"] == pytest.approx(sigma, rel=0.05)


def batch_of(spec: str, batch: int, **training):
    """A client's update of some clips under a framework's defence, and the gradient of every clip alone."""
    truths = torch.stack([clip(5 + k) for k in range(batch)])
    labels = [3, 1, 4, 0][:batch]
    view = view_of(seeded(flat), truths, labels)
    defences = tuple(map(str, parse_all([spec], ClientTraining(clips=batch, **training))))
    clients = batch if batch > 1 else 1
    client = view.client.under(replace(view.client.protocol, defence=defences, clients=clients, batch=batch))
    sent = client.update(truths, client.targets(labels)).gradients
    alone = [view.client(x[None], view.client.targets([y])) for x, y in zip(truths, labels, strict=True)]
    return {n: g.numpy() for n, g in sent.items()}, [{n: g.numpy() for n, g in one.items()} for one in alone]


@pytest.mark.parametrize("batch", [1, 4])
def test_opacus_clips_every_clip_and_adds_noise_to_their_sum(batch):
    for multiplier, rel in ((0.0, None), (0.5, 0.02)):
        spec = f"opacus-dp-sgd:noise_multiplier={multiplier},max_grad_norm=0.3"
        sent, alone = batch_of(spec, batch)
        total = {n: np.zeros_like(g) for n, g in sent.items()}
        for one in alone:
            factor = min(1.0, 0.3 / (math.sqrt(sum(float((g**2).sum()) for g in one.values())) + 1e-6))
            for n, g in one.items():
                total[n] += factor * g
        off = np.concatenate([(sent[n] - g / batch).ravel() for n, g in total.items()])
        if rel is None:
            assert np.abs(off).max() < 1e-6
        else:
            assert off.std() == pytest.approx(multiplier * 0.3 / batch, rel=rel)


def test_fedbiomed_adds_its_noise_once_at_the_end():
    sent, alone = batch_of("fedbiomed-central:sigma=2,clip=0.3", 2)
    factors = [min(1.0, 0.3 / math.sqrt(sum(float((g**2).sum()) for g in one.values()))) for one in alone]
    off = np.concatenate(
        [(sent[n] - sum(f * one[n] for f, one in zip(factors, alone, strict=True)) / 2).ravel() for n in sent]
    )
    assert off.std() == pytest.approx(2 * 0.3, rel=0.02)


def test_fedml_adds_noise_without_clipping():
    (noise,) = written("fedml-local-dp:epsilon=4,delta=0.5")
    assert float(noise.removeprefix("laplace:")) == pytest.approx(1 / (4 + math.log(2)))
    (noise,) = written("fedml-local-dp:epsilon=0.5,mechanism_type=gaussian,sensitivity=2")
    sigma = 2 * np.sqrt(2 * np.log(1.25e5)) / 0.5
    assert float(noise.removeprefix("gaussian:")) == pytest.approx(sigma)
    with pytest.raises(UsageError, match="epsilon of 1 at most"):
        written("fedml-local-dp:epsilon=2,mechanism_type=gaussian")


def test_fedml_compression():
    top = sent_under("fedml-topk")
    for name, g in TRUE.items():
        size = np.sort(np.abs(g.numpy()).ravel())[::-1]
        kept = np.abs(g.numpy()) >= size[math.floor(0.05 * size.size) - 1]
        assert np.array_equal(top[name], np.where(kept, g.numpy(), 0.0))


def test_fedml_quantises_nothing_by_default():
    assert written("fedml-qsgd") == ["unchanged"]
    assert all(np.array_equal(g, TRUE[n].numpy()) for n, g in sent_under("fedml-qsgd").items())


@pytest.mark.parametrize(("spec", "levels"), [("fedml-qsgd:quantize_level=5", 31), ("qsgd:32", 32)])
def test_rounding_at_random_is_right_on_average_at_its_scale(spec, levels):
    constant = {"w": torch.cat([torch.full((50_000,), 0.3), torch.full((50_000,), -0.7)]).double()}
    made = sent_under(spec, constant)["w"]
    factor = 1 / (1 + min(100_000 / levels**2, math.sqrt(100_000) / levels)) if "fedml" in spec else 1.0
    step = factor * math.sqrt(float((constant["w"] ** 2).sum())) / levels
    assert set(np.unique(np.round(made / step, 6))) <= {-1.0, 0.0, 1.0}
    assert made[:50_000].mean() == pytest.approx(0.3 * factor, abs=0.05 * factor)
    assert made[50_000:].mean() == pytest.approx(-0.7 * factor, abs=0.05 * factor)
    (defence,) = parse_all([spec])
    ours = {n: g.clone().requires_grad_() for n, g in constant.items()}
    expected = defence.simulate(ours, {"w": torch.from_numpy(made)})["w"].detach().numpy()
    found = defence.deviation({"w": torch.from_numpy(made)})["w"]
    assert found == pytest.approx(float((made - expected).std()), rel=0.05)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_refused_in_one_line_with_its_form(name):
    for given in ("nonsense=3", "nonsense"):
        with pytest.raises(UsageError) as caught:
            parse_all([f"{name}:{given}"])
        assert "\n" not in str(caught.value)
        assert caught.value.remedy == f"use {form(name)}"


def test_what_has_no_default_in_a_framework_has_none_here():
    with pytest.raises(UsageError, match="clipping_norm, sensitivity, epsilon, delta has no default"):
        parse_all(["flower-local-dp"])
    with pytest.raises(UsageError, match="several local steps"):
        parse_all(["opacus-dp-sgd:noise_multiplier=1,max_grad_norm=1"], ClientTraining(one_gradient=False))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("flower-secagg-plus:num_clients=2.7", "num_clients 2.7 is no whole number"),
        ("openfl-eden:n_bits=1.5", "n_bits 1.5 is no whole number"),
        ("fedml-qsgd:quantize_level=2.5", "quantize_level 2.5 is no whole number"),
        ("flower-secagg-plus:num_clients=nan", "num_clients nan is no whole number"),
        ("fedml-topk:compression_ratio=1e999", "compression_ratio 1e999 is no number"),
        ("fedml-topk:compression_ratio", "compression_ratio has no value"),
        ("fedml-topk:compression_ratio=0.1,compression_ratio=0.2", "given twice"),
        ("flower-client-adaptive:noise_multiplier=1,num_sampled_clients=0", "is 0, or too large"),
        ("nvflare-svt-privacy:fraction=1.5", "nvflare-svt-privacy:fraction=1.5 amounts to sparse-vector:1.5"),
        ("nvflare-percentile-privacy:percentile=-5", "sends the bare update else"),
        ("nvflare-percentile-privacy:gamma=0", "sends the bare update else"),
        ("flowr-local-dp:clipping_norm=1", "did you mean flower-local-dp"),
        ("server:flower-local-dp:clipping_norm=1", "says no single thing that a server does"),
        ("server:secure-aggregation:4", "says no single thing that a server does"),
    ],
)
def test_numbers_that_a_framework_would_not_take_are_refused_by_its_own_name(spec, says):
    with pytest.raises(UsageError) as caught:
        parse_all([spec])
    assert says in str(caught.value)
    assert caught.value.remedy
