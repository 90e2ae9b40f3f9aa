"""Audits of updates under defences: exposure, controls, what attacks meet, and what the results tell."""

import functools
import math
from dataclasses import replace

import pytest
import torch
from bench_nets import flat, mlp, seeded, target_of

from auditor.attack import PRESETS
from auditor.errors import UsageError
from auditor.exposure import Exposed
from auditor.exposure.layers import MOST_PRODUCTS
from auditor.federated import DEFENCES, parse
from auditor.options import ClientOptions
from auditor.pipeline.context import Context, observe_probes
from auditor.pipeline.controls import simulation_control
from auditor.pipeline.defended.exposed_update import expose_update
from auditor.pipeline.defended.unmet_defences import left_out
from auditor.pipeline.documents.model import protocol_block
from auditor.pipeline.planted.own_net_control import own_net_control
from auditor.pipeline.progress import Silent
from auditor.pipeline.training import loss_of, trained
from auditor.probe import moving_texture
from auditor.records import FederatedProtocol

FAST = PRESETS["fast"]
EVERY = (
    "clip:1", "clamp:1", "gaussian:1", "laplace:1", "top-k:0.1", "random-k:0.1", "prune:0.1", "exclude:a", "sign",
    "quantise:4", "float16", "secure-aggregation:2", "relative-gaussian:1,95", "sparse-vector:0.1,0.1,0.1,1e-5,1e-6,1",
    "exclude-regex:a", "fixed-point:8,256", "qsgd:32", "per-clip:2", "sparse-ternary:0.1", "kmeans:6",
    "blockwise:dynamic8", "eden:4,100", "unchanged",
)  # fmt: skip


def context(*specs: str, net=flat, **options) -> Context:
    target = target_of(seeded(net))
    given = ClientOptions(model="m", defence=specs, **options)
    return trained(target, given, loss_of(given.loss, target))


def observed(made: Context):
    return observe_probes(made, [moving_texture(made.input, 1)])[0]


@functools.cache
def exposure(*specs: str) -> float:
    made = context(*specs)
    # As many products as an audit takes, and none for layers by themselves, which nothing here looks at.
    found = expose_update(made, observed(made), 0.05, 60.0, products=MOST_PRODUCTS)
    assert isinstance(found, Exposed)
    # In dB; what the modes leave out caps the PSNR, and would hide differences.
    return -10.0 * math.log10(1.0 - found.all.determined)


def test_every_defence_is_tried_here():
    assert {spec.partition(":")[0] for spec in EVERY} == {kind.name for kind in DEFENCES}


def test_exposure_is_of_what_a_defence_leaves():
    bare = exposure()
    assert exposure("clip:0.001") == pytest.approx(bare, abs=0.05)
    assert exposure("server:gaussian:10") == bare
    assert exposure("float16") == pytest.approx(bare, abs=0.05)
    # Rounding is an error of every entry: eight bits hide little, and fewer hide more.
    assert bare > exposure("quantise:8") > bare - 3.0
    assert exposure("quantise:8") > exposure("quantise:3") > exposure("quantise:2") > exposure("gaussian:10")
    little, much = exposure("gaussian:1e-4"), exposure("gaussian:1e-2")
    assert bare >= little > much + 3.0
    assert bare > exposure("top-k:0.2") > exposure("top-k:0.02") + 0.5
    assert bare > exposure("sign") + 0.5
    assert bare > exposure("exclude:[02].*")


@pytest.mark.parametrize("spec", ["gaussian:0.01", "random-k:0.3", "sign", "clip:0.1", "secure-aggregation:2"])
def test_the_simulated_client_reproduces_its_update_with_its_own_draws(spec):
    made = context(spec)
    assert simulation_control(made, observed(made)).passed is True


def test_a_planted_clip_is_found_under_a_defence():
    made = context("clip:0.01", "gaussian:1e-6")
    control = own_net_control(made, observed(made), FAST.attacks, Silent())
    assert control.passed is True
    assert "without" not in control.measured


def test_where_noise_hides_the_planted_clip_the_search_is_tried_without_it():
    made = context("gaussian:10")
    control = own_net_control(made, observed(made), FAST.attacks, Silent())
    assert control.passed is True
    assert control.measured.endswith("of what was planted, without the defences, which hide it")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_searches_that_meet_every_defence(name):
    blind = [a for a in PRESETS[name].attacks if not a.closed_form and not a.frames_of_scene]
    held = [a for a in PRESETS[name].attacks if a.frames_of_scene]
    for attacks in (blind, held):
        assert any(all(a.meets(parse(spec)) for spec in EVERY) for a in attacks)


def test_attacks_without_a_form_are_named_where_they_would_run():
    made = context("gaussian:0.01", net=mlp)
    assert "linear-input" in left_out(made, observed(made), FAST)["gaussian:0.01"]
    conv = context("gaussian:0.01")
    found = left_out(conv, observed(conv), FAST)["gaussian:0.01"]
    # The net's only Linear reads features, so that reading pixels off it does not apply with or without noise.
    assert "linear-input" not in found
    assert {"layer-recursion", "feature-inversion"} <= set(found)
    assert not {"least-squares-matching", "layer-recursion-r1"} & set(found)
    assert left_out(context("clip:1"), observed(context("clip:1")), FAST) == {}


def test_the_results_tell_of_defences_and_where_they_act():
    made = context("clip:1", "server:gaussian:0.5", batch=2)
    block = protocol_block(made, observed(made), None, {"clip:1": ("spear",)})
    client, server = block.defences
    assert (client.name, client.acts, client.unknown_to) == ("clip:1", "client", ("spear",))
    assert (server.name, server.acts) == ("server:gaussian:0.5", "server")
    assert any("clip:1" in told for told in block.threat_model.assumes)
    assert not any("differential privacy" in told for told in block.threat_model.out_of_scope)


def test_clients_of_a_sum_have_clips_of_their_own():
    made = context("secure-aggregation:3", batch=2)
    seen = observed(made)
    assert (made.protocol.batch, made.protocol.clients, made.protocol.clips_each) == (6, 3, 2)
    assert len(seen.clips) == 6
    assert seen.update.batch == 6
    # FedSGD without batch statistics: the average over clients is the gradient of all their clips.
    one = made.client.under(replace(made.protocol, defence=(), clients=1))
    whole = one(seen.clips, made.client.targets(seen.labels))
    assert all(torch.allclose(g, whole[n], atol=1e-6) for n, g in seen.update.gradients.items())
    assert "the average over 3 clients" in " ".join(protocol_block(made, seen, None).threat_model.assumes)


def test_several_clients_clips_are_counted_per_client_in_local_training():
    protocol = FederatedProtocol(algorithm="FedAvg", batch=6, clients=3, local_batch=1, local_epochs=2)
    assert (protocol.local_batches, protocol.steps) == (2, 4)


@pytest.mark.parametrize(
    ("specs", "options", "says"),
    [
        (("exclude:*",), {}, "leaves no parameter"),
        (("exclude:haed.*",), {}, "exclude:haed.* matches no parameter that is trained"),
        (("gaussian:0.1", "clip:1"), {}, "gaussian:0.1 before clip:1: noise that a clip scales afterwards"),
        (("random-k:0.1", "float16", "secure-aggregation:2"), {}, "which entries were sent cannot be seen then"),
        (("clip:1", "per-clip:3"), {"batch": 4}, "names 3 clips, and --batch is 4"),
        (("clip:1", "per-clip:4"), {"batch": 4, "algorithm": "FedAvg"}, "treats the clips of one gradient"),
        (("secure-aggregation:33",), {"batch": 2}, "66 clips of 33 clients are behind"),
        (("secure-aggregation:2",), {"send_buffers": True, "bn": "train"}, "not modelled"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(specs, options, says):
    with pytest.raises(UsageError, match=says):
        context(*specs, **options)
