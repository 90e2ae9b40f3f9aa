"""Mode exposure against finite differences, direct algebra and cases with a known answer."""

import math
from dataclasses import replace

import pytest
import torch
from bench_nets import SPEC, clip, flat, pooled, seeded, target_of
from scipy.fft import dctn
from torch import nn

from auditor.exposure import closed_form_flags, expose
from auditor.exposure.jacobian import JacobianProducts, grams
from auditor.exposure.layers import _rounding, products_for
from auditor.exposure.modes import leading_modes
from auditor.federated import LocalClient
from auditor.prior.spectrum import Spectrum
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


def tiny(frames: int = 2, size: int = 6) -> tuple[InputSpec, nn.Module]:
    spec = InputSpec(frames=frames, channels=3, height=size, width=size, layout="NCTHW")
    cells = frames * size * size
    return spec, nn.Sequential(nn.Conv3d(3, 5, 3, 1, 1), nn.Tanh(), nn.Flatten(), nn.Linear(5 * cells, 10))


def exact_posterior(client, x, layers, variance: float, sigma: float, floor: float = 0.0) -> float:
    """Return the PSNR of the dense posterior: slopes by differences in float64, modes by scipy."""
    n, h = x[0].numel(), 1e-4
    dense = torch.zeros(n, n, dtype=torch.float64)
    columns = []
    for i in range(n):
        step = torch.zeros(n, dtype=torch.float64)
        step[i] = h
        up, down = client(x + step.view(x.shape), LABEL), client(x - step.view(x.shape), LABEL)
        columns.append({name: ((up[name] - down[name]) / (2 * h)).flatten() for name in up})
    gradient = client(x, LABEL)
    for layer in layers:
        entries = torch.cat([gradient[name].flatten() for name in layer.parameters])
        jacobian = torch.stack([torch.cat([c[name] for name in layer.parameters]) for c in columns])
        dense += jacobian @ jacobian.T / (sigma**2 * float(entries.square().mean()) + floor)
    modes = dctn(dctn(dense.view(*x.shape[1:], n).numpy(), axes=range(4), norm="ortho").reshape(n, *x.shape[1:]),
                 axes=range(1, 5), norm="ortho").reshape(n, n)  # fmt: skip
    law = Spectrum().variance(tuple(x.shape[1:])).flatten()
    law = law * (variance * n / law.sum())
    left = torch.linalg.inv(torch.diag(1 / law) + torch.from_numpy(modes)).trace()
    return -10 * math.log10(float(left) / n)


@pytest.fixture(scope="module")
def small():
    spec, net = tiny()
    torch.manual_seed(0)
    net = tiny(spec.frames, spec.height)[1]
    target = target_of(net, spec)
    target.model.double()
    client = LocalClient(target.model, FederatedProtocol(sent=tuple(target.parameters)))
    return client, shipped_probes(spec)[0].clip[None].double(), target.layers


@pytest.mark.parametrize(("sigma", "floor"), [(3e-2, 0.0), (0.3, 0.0), (3e-2, 1e-4)])
def test_exposure_is_the_trace_of_the_exact_posterior(small, sigma, floor):
    client, x, layers = small
    exact = exact_posterior(client, x, [la for la in layers if la.parameters], 0.05, sigma, floor)
    deviation = dict.fromkeys(client(x, LABEL), floor**0.5)
    made = [
        expose(client, x, LABEL, layers, 0.05, 60.0, sigma=sigma, deviation=deviation, products=n).all
        for n in (4, 8, 16, 64)
    ]
    # One vector of random signs stands for the trace: it is off by 0.2 dB or less here.
    assert all(e.psnr <= exact + 0.4 and e.at_most >= exact - 0.4 for e in made)
    assert [e.psnr for e in made] == sorted(e.psnr for e in made)
    assert [e.at_most for e in made] == sorted((e.at_most for e in made), reverse=True)
    assert made[0].psnr > made[0].prior + 0.3
    assert made[-1].at_most - made[-1].psnr < 0.5 * (made[0].at_most - made[0].psnr)


@pytest.mark.parametrize("index", [0, 1])
def test_a_layer_is_what_its_own_gradient_determines(small, index):
    client, x, layers = small
    layer = [la for la in layers if la.parameters][index]
    exact = exact_posterior(client, x, [layer], 0.05, 3e-2)
    made = expose(client, x, LABEL, layers, 0.05, 60.0).layers[layer.index]
    assert made.psnr - 0.4 <= exact <= made.at_most + 0.4
    assert made.at_most - made.psnr < 3.0


def test_products_from_either_side_agree():
    _, client = client_of(seeded(pooled))
    x = clip(1)[None]
    products, g = JacobianProducts(client, x, LABEL), torch.Generator().manual_seed(0)
    v = torch.randn(x.shape, generator=g)
    along = products.along(v, products.norms)
    w = {n: torch.randn(p.shape, generator=g) for n, p in along.items()}
    here = sum(float((w[n].double() * p.double()).sum()) for n, p in along.items())
    size = sum(float(w[n].norm() * p.norm()) for n, p in along.items())
    assert abs(here - float((products.across(w).double() * v.double()).sum())) < 1e-5 * size
    one = next(iter(w))
    assert set(products.along(v, [one])) == {one}
    assert torch.allclose(products.along(v, [one])[one], along[one], rtol=1e-4, atol=1e-6 * float(along[one].norm()))
    alone = float((products.across({one: w[one]}).double() * v.double()).sum())
    assert alone == pytest.approx(float((w[one].double() * along[one].double()).sum()), rel=1e-3, abs=1e-5 * size)


def test_how_many_products_each_part_gets():
    assert products_for(4, 1e6) == (64, 48)
    assert products_for(17, 1e6) == (64, 15)
    assert products_for(1, 1e6) == (64, 0)
    # Layers of a large net do not fit: all is for the whole update.
    assert products_for(41, 20.0) == (20, 0)
    assert products_for(41, 3.9) == (0, 0)
    for layers in (2, 9, 41):
        for fitting in (4.0, 17.0, 60.0, 200.0):
            whole, each = products_for(layers, fitting)
            assert whole + each * layers * 0.3 <= fitting
            assert each == 0 or each >= 4


def test_rounding_of_weights_hides_what_a_tiny_learning_rate_sends():
    target, client = client_of(seeded(flat))
    weights = target.parameters
    made = {}
    for rate in (1e-1, 1e-7):
        local = replace(client.protocol, algorithm="FedAvg", learning_rate=rate, local_epochs=2)
        made[rate] = expose(client.under(local), clip(1)[None], LABEL, target.layers, 0.05, 60.0, weights=weights).all
    assert made[1e-1].psnr > made[1e-1].prior + 3.0
    assert made[1e-7].ceiling < made[1e-1].ceiling
    assert made[1e-7].at_most < made[1e-1].psnr - 3.0
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


def test_more_layers_expose_more_and_less_noise_too():
    target, client = client_of(seeded(pooled))
    made = expose(client, clip(1)[None], LABEL, target.layers, 0.05, 60.0)
    assert (made.modes, made.coverage) == (math.prod(SPEC.clip_shape), 1.0)
    assert made.products == 64 or made.all.at_most - made.all.psnr < 0.3
    assert made.all.ceiling >= made.all.psnr
    assert all(made.all.at_most >= e.psnr - 1e-6 for e in made.layers.values())
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
