"""Mode exposure against finite differences, direct algebra and cases with a known answer."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from bench_nets import SPEC, clip, flat, pooled, seeded, target_of

from auditor.exposure import closed_form_flags, expose
from auditor.exposure.jacobian import JacobianProducts, grams
from auditor.exposure.layers import Noise, _exposure, _posterior, _rounding
from auditor.exposure.modes import leading_modes
from auditor.federated import LocalClient
from auditor.probe import shipped_probes
from auditor.records import FederatedProtocol, InputSpec

LABEL = torch.tensor([3])


def client_of(net, sent=None):
    target = target_of(net)
    names = tuple(sent) if sent else tuple(target.parameters)
    return target, LocalClient(target.model, FederatedProtocol(sent=names))


def test_modes_are_orthonormal_and_hold_the_variance_they_say():
    modes = leading_modes((4, 3, 8, 8), 40, 0.05)
    flat_basis = modes.basis.flatten(1)
    assert torch.allclose(flat_basis @ flat_basis.T, torch.eye(40), atol=1e-5)
    assert bool((modes.variance.diff() <= 1e-12).all())
    total = float(modes.variance.sum()) + modes.outside
    assert total == pytest.approx(0.05 * 4 * 3 * 8 * 8, rel=1e-6)
    everything = leading_modes((2, 3, 4, 4), 96, 0.05)
    assert everything.outside == pytest.approx(0.0, abs=1e-9)
    assert everything.coverage == pytest.approx(1.0)


@pytest.mark.parametrize(("frames", "size"), [(8, 16), (8, 32), (16, 64)])
def test_modes_leave_out_of_real_clips_what_they_say(frames, size):
    spec = InputSpec(frames=frames, channels=3, height=size, width=size, layout="NCTHW")
    clips = torch.stack([p.clip for p in shipped_probes(spec)])
    modes = leading_modes(spec.clip_shape, 256, float((clips - clips.mean(0, keepdim=True)).square().mean()))
    centred = (clips - 0.5).flatten(1)
    held = centred @ modes.basis.flatten(1).T
    left = float(centred.square().sum() - held.square().sum()) / len(clips)
    # A separable AR(1) of correlation 0.95 says 4 to 11 dB less here.
    assert abs(10.0 * math.log10(left / modes.outside)) < 1.5


def test_products_agree_with_finite_differences():
    _, client = client_of(seeded(flat))
    x = clip(1)[None]
    products = JacobianProducts(client, x, LABEL)
    v = leading_modes(SPEC.clip_shape, 5, 0.05).basis[4][None]
    made = products(v)
    # float32 gradients of this net carry noise of about 1e-7; at this step the quotient keeps two digits.
    h = 3e-2
    up, down = client(x + h * v, LABEL), client(x - h * v, LABEL)
    for name in ("0.bias", "2.bias", "5.bias", "0.weight"):
        numeric = ((up[name] - down[name]) / (2 * h)).flatten()
        assert float((made[name] - numeric).norm()) < 0.03 * float(numeric.norm())


def test_the_sketch_keeps_inner_products():
    _, client = client_of(seeded(flat))
    products = JacobianProducts(client, clip(1)[None], LABEL)
    vs = [m[None] for m in leading_modes(SPEC.clip_shape, 6, 0.05).basis]
    sketched = grams(products, vs, {"head": ["5.weight"]}, lambda f: None)["head"]
    exact = torch.stack(
        [torch.autograd.grad(products._jtu, products._u, v, retain_graph=True)[4].flatten() for v in vs]
    ).double()
    truth = exact @ exact.T
    assert products.sizes["5.weight"] > 4096
    assert float((sketched - truth).norm()) < 0.1 * float(truth.norm())


def test_the_posterior_is_the_textbook_one():
    g = torch.Generator().manual_seed(0)
    j = torch.randn(7, 5, generator=g, dtype=torch.float64)
    d = torch.rand(5, generator=g, dtype=torch.float64) + 0.1
    sigma, mean_square = 0.3, 2.0
    for floor in (0.0, 0.7):
        direct = torch.linalg.inv(torch.diag(1 / d) + j.T @ j / (sigma**2 * mean_square + floor)).trace()
        noise = {"a": Noise(signal=mean_square, floor=floor)}
        assert _posterior({"a": j.T @ j}, noise, d, sigma) == pytest.approx(float(direct), rel=1e-9)


def test_each_number_of_exposure_is_at_the_noise_that_it_is_named_after():
    g = torch.Generator().manual_seed(0)
    j = torch.randn(7, 5, generator=g, dtype=torch.float64)
    modes = SimpleNamespace(variance=torch.rand(5, generator=g, dtype=torch.float64) + 0.1, outside=0.01)
    gram, noise = {"a": j.T @ j}, {"a": Noise(signal=2.0, floor=0.0)}
    made = _exposure(gram, noise, modes, 1, (3, 4))  # type: ignore[arg-type]

    def level(left):
        return -10 * math.log10((float(left) + 0.01) / 12)

    for sigma, found in ((3e-2, made.psnr), (1e-6, made.ceiling)):
        left = torch.linalg.inv(torch.diag(1 / modes.variance) + gram["a"] / (sigma**2 * 2.0)).trace()
        assert found == pytest.approx(level(left), rel=1e-6)
        if sigma == 3e-2:
            assert made.determined == pytest.approx(1 - float(left / modes.variance.sum()), rel=1e-6)
    assert made.prior == pytest.approx(level(modes.variance.sum()))
    assert made.cap == pytest.approx(level(0.0))
    assert made.sigma == 3e-2
    assert made.prior + 1.0 < made.psnr < made.ceiling - 1e-3


def test_rounding_of_weights_hides_what_a_tiny_learning_rate_sends():
    target, client = client_of(seeded(flat))
    weights = target.parameters
    made = {}
    for rate in (1e-1, 1e-7):
        local = replace(client.protocol, algorithm="FedAvg", learning_rate=rate, local_epochs=2)
        made[rate] = expose(client.under(local), clip(1)[None], LABEL, target.layers, 0.05, 60.0, weights=weights).all
    assert made[1e-1].psnr > made[1e-1].prior + 3.0
    assert made[1e-7].ceiling < made[1e-1].ceiling
    assert 1.0 - made[1e-7].determined > 10.0 * (1.0 - made[1e-1].determined)
    sent = {rate: client.under(replace(client.protocol, algorithm="FedAvg", learning_rate=rate)) for rate in made}
    exact = client(clip(1)[None], LABEL)
    for rate, one in sent.items():
        # The model of the noise against what rounding did, in one parameter.
        off = one(clip(1)[None], LABEL)["2.weight"] / rate - exact["2.weight"]
        predicted = _rounding([weights["2.weight"]]) ** 0.5 / rate
        assert 0.1 * predicted < float(off.square().mean().sqrt()) < 10 * predicted


def test_what_carries_nothing_exposes_nothing():
    target, client = client_of(seeded(flat), ["5.bias"])
    made = expose(client, clip(1)[None], LABEL, target.layers, 0.05, 60.0)
    assert made.all.prior == pytest.approx(-10 * math.log10(0.05), abs=1e-6)
    # Ten numbers of softmax cannot tell 3,072 pixels: at most 10 of hundreds of modes can shrink.
    assert made.all.psnr < made.all.prior + 1.0


def test_the_share_that_is_determined_does_not_hang_on_how_many_modes_fit():
    for parameters, low, high in ((None, 0.9, 1.0), (["5.bias"], 0.0, 0.1)):
        target, client = client_of(seeded(flat), *([parameters] if parameters else []))
        made = [expose(client, clip(1)[None], LABEL, target.layers, 0.05, 60.0, counts=(n,)).all for n in (64, 8)]
        assert all(low <= e.determined <= high for e in made)
        assert all(e.prior <= e.psnr <= e.cap for e in made)
        # 8 modes hold less of a clip: what they can show ends earlier.
        assert made[1].cap < made[0].cap - 3.0


def test_more_layers_expose_more_and_less_noise_too():
    target, client = client_of(seeded(pooled))
    made = expose(client, clip(1)[None], LABEL, target.layers, 0.05, 60.0)
    assert made.modes == 256
    assert made.all.ceiling >= made.all.psnr
    assert all(made.all.psnr >= e.psnr - 1e-6 for e in made.layers.values())
    assert made.all.psnr > made.all.prior + 3.0


def test_exposure_out_of_budget_says_so():
    target, client = client_of(seeded(flat))
    made = expose(client, clip(1)[None], LABEL, target.layers, 0.05, 0.0)
    assert made.because == "out-of-budget"


def test_flags_name_what_is_solvable_in_closed_form():
    target = target_of(seeded(flat))
    sent = tuple(target.parameters)
    single = closed_form_flags(target.layers, FederatedProtocol(batch=1, sent=sent), 10, target.parameters)
    assert any("exactly" in f for f in single[target.layers[-1].index])
    assert any("iDLG" in f for f in single[target.layers[-1].index])
    several = closed_form_flags(target.layers, FederatedProtocol(batch=4, sent=sent), 10, target.parameters)
    assert any("iLRG" in f for f in several[target.layers[-1].index])
    assert not any("exactly" in f for f in several[target.layers[-1].index])
