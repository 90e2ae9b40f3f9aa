"""Frameworks' defences by their names send what the frameworks' own code does, each in an environment of its own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bench_nets import clip, flat, seeded, view_of
from own_environment import own_environment

from auditor.federated import ClientTraining, parse_all
from auditor.federated.defence import defend
from auditor.federated.frameworks import adaptive_multiplier
from auditor.records import at_client

# A busy machine installs the packages in twenty minutes.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
Arrays = dict[str, np.ndarray]


def drawn(scale: float = 0.02) -> Arrays:
    g = torch.Generator().manual_seed(1)
    shapes = {"b.weight": (40, 30, 5), "a.bias": (41,), "c.weight": (101, 130)}
    return {name: (scale * torch.randn(*shape, generator=g)).numpy() for name, shape in shapes.items()}


def ours(spec: str, update: Arrays, **training) -> Arrays:
    defences = at_client(parse_all([spec], ClientTraining(**training)))
    tensors = {n: torch.from_numpy(g) for n, g in update.items()}
    return {n: g.numpy() for n, g in defend(defences, tensors, torch.Generator().manual_seed(3)).items()}


def every(arrays: Arrays) -> np.ndarray:
    return np.concatenate([np.asarray(arrays[n], dtype=np.float64).ravel() for n in sorted(arrays)])


class Framework:
    """What a framework's own code makes of arrays: `program` reads `given` and fills the dicts that are saved."""

    def __init__(self, folder: Path, *installs: tuple[str, ...]) -> None:
        self._folder, self._environment = folder, own_environment(folder, *installs)

    def __call__(self, program: str, given: Arrays) -> dict[str, Arrays]:
        np.savez(self._folder / "given.npz", **given)
        for old in self._folder.glob("made-*.npz"):
            old.unlink()
        self._environment.run(self._folder, _BEFORE + program + _AFTER)
        return {path.stem.removeprefix("made-"): dict(np.load(path)) for path in self._folder.glob("made-*.npz")}


_BEFORE = '''
import importlib.util, sys, types
import numpy as np
import torch

def without_its_imports(package):
    """Let modules of a package be imported whose own dependencies are not installed."""
    parts = package.split(".")
    for name in (".".join(parts[:k]) for k in range(1, len(parts) + 1)):
        if name not in sys.modules:
            module = types.ModuleType(name)
            module.__path__ = list(importlib.util.find_spec(name).submodule_search_locations)
            sys.modules[name] = module

np.random.seed(0), torch.manual_seed(0)
given = dict(np.load("given.npz"))
names, made = list(given), {}
'''
_AFTER = """
for case, arrays in made.items():
    np.savez(f"made-{case}.npz", **{name: np.asarray(value) for name, value in arrays.items()})
"""


def relative(found: Arrays, expected: Arrays) -> float:
    assert found.keys() == expected.keys()
    return float(np.linalg.norm(every(found) - every(expected)) / np.linalg.norm(every(expected)))


FLOWER = """
from flwr.common.secure_aggregation.quantization import dequantize, quantize
from flwr.supercore import differential_privacy as dp

before = [np.ones_like(value) for value in given.values()]
for case, deviation in (("clipped", 0.0), ("noisy", 1e-4 * np.sqrt(2 * np.log(1.25e5)) / 10)):
    after = [b + value for b, value in zip(before, given.values())]
    dp.compute_clip_model_update(after, before, 0.5)
    if deviation:
        dp.add_gaussian_noise_inplace(after, deviation)
    made[case] = {n: a - b for n, a, b in zip(names, after, before)}
made["multiplier"] = {"z": dp.compute_adaptive_noise_params(0.7, 100, None)[1]}
made["central"] = {"s": dp.compute_stdv(0.8, 2.5, 10)}
levels = quantize(list(given.values()), 8.0, 2**22)
made["rounded"] = dict(zip(names, dequantize(levels, 8.0, 2**22)))
"""


def test_flower(tmp_path):
    update = drawn()
    made = Framework(tmp_path, ("flwr",))(FLOWER, update)
    spec = "flower-client-fixed:noise_multiplier=1,clipping_norm=0.5,num_sampled_clients=9"
    # The framework clips weights, which are ones and a change here: float32 rounds them at 6e-8.
    assert relative(made["clipped"], ours(spec, update)) < 2e-5
    noisy = ours("flower-local-dp:clipping_norm=0.5,sensitivity=1e-4,epsilon=10,delta=1e-5", update)
    clipped = every(ours(spec, update))
    assert (every(noisy) - clipped).std() == pytest.approx((every(made["noisy"]) - clipped).std(), rel=0.03)
    assert float(made["multiplier"]["z"]) == pytest.approx(adaptive_multiplier(0.7, 5.0))
    central = parse_all(["flower-server-fixed:noise_multiplier=0.8,clipping_norm=2.5,num_sampled_clients=10"])
    assert str(central[1]) == f"server:gaussian:{float(made['central']['s'])!r}"
    rounded = ours(str(parse_all(["flower-secagg-plus:num_clients=2"])[0]), update)
    step = 16 / 2**22
    assert np.abs(every(rounded) - every(made["rounded"])).max() < 1.01 * step
    assert np.allclose(np.round((every(made["rounded"]) + 8) / step), (every(made["rounded"]) + 8) / step, atol=1e-3)


NVFLARE = """
from nvflare.apis.dxo import DXO, DataKind, MetaKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.filters.exclude_vars import ExcludeVars
from nvflare.app_common.filters.percentile_privacy import PercentilePrivacy
from nvflare.app_common.filters.svt_privacy import SVTPrivacy

def sent(defence, steps, data=given):
    dxo = DXO(DataKind.WEIGHT_DIFF, {n: v.copy() for n, v in data.items()}, {MetaKey.NUM_STEPS_CURRENT_ROUND: steps})
    return defence.process_dxo(dxo, Shareable(), FLContext()).data

made["percentile-1"], made["percentile-4"] = sent(PercentilePrivacy(), 1), sent(PercentilePrivacy(), 4)
made["svt"] = sent(SVTPrivacy(), 1, {n: v * 1e-3 for n, v in given.items()})
made["without"] = sent(ExcludeVars("^b|head"), 1)
"""


def test_nvflare(tmp_path):
    update = drawn()
    made = Framework(tmp_path, ("nvflare",))(NVFLARE, update)
    for steps in (1, 4):
        found = ours("nvflare-percentile-privacy", update, steps=steps)
        assert relative(found, made[f"percentile-{steps}"]) < 1e-6
    assert made["without"].keys() == ours("nvflare-exclude-vars:exclude_vars=^b|head", update).keys()
    ready = {n: g * np.float32(1e-3) for n, g in update.items()}
    found, theirs = every(ours("nvflare-svt-privacy", ready)), every(made["svt"])
    assert (found != 0).sum() == pytest.approx((theirs != 0).sum(), rel=0.05)
    # Both are mostly noise: what is left of the update's direction agrees within the error of so few entries.
    cosines = [v @ every(ready) / np.linalg.norm(v) / np.linalg.norm(every(ready)) for v in (found, theirs)]
    assert cosines[0] == pytest.approx(cosines[1], abs=4 / np.sqrt((theirs != 0).sum()))
    assert found[found != 0].std() == pytest.approx(theirs[theirs != 0].std(), rel=0.05)


FEDML = """
from types import SimpleNamespace

without_its_imports("fedml.core.dp.frames"), without_its_imports("fedml.utils")
from fedml.core.dp.frames.ldp import LocalDP
from fedml.utils.compression import compressors

for kind, epsilon in (("laplace", 4.0), ("gaussian", 0.5)):
    noise = LocalDP(SimpleNamespace(mechanism_type=kind, epsilon=epsilon, delta=0.3, sensitivity=2.0))
    made[kind] = noise.add_local_noise({n: torch.from_numpy(v) for n, v in given.items()})
tops = compressors["topk"]()
made["top"] = {}
for n, v in given.items():
    flat = tops.flatten(torch.from_numpy(v), n)
    _, places, values = tops.compress(flat, n)
    made["top"][n] = tops.unflatten(tops.decompress_new(values, places, n), n)
for level in (32, 4):
    made[f"qsgd-{level}"] = {n: compressors["qsgd"]().compress(torch.from_numpy(v), n, level) for n, v in given.items()}
"""


def test_fedml(tmp_path):
    update = drawn()
    made = Framework(tmp_path, ("--no-deps", "fedml"))(FEDML, update)
    for kind, epsilon in (("laplace", 4.0), ("gaussian", 0.5)):
        found = ours(f"fedml-local-dp:epsilon={epsilon},delta=0.3,sensitivity=2,mechanism_type={kind}", update)
        theirs = every(made[kind]) - every(update)
        assert (every(found) - every(update)).std() == pytest.approx(theirs.std(), rel=0.03)
        # Of equal deviation, Laplace's noise has the smaller mean magnitude.
        assert np.abs(every(found) - every(update)).mean() == pytest.approx(np.abs(theirs).mean(), rel=0.03)
    assert relative(ours("fedml-topk", update), made["top"]) == 0.0
    assert relative(ours("fedml-qsgd", update), made["qsgd-32"]) == 0.0
    found = ours("fedml-qsgd:quantize_level=4", update)
    for name, theirs in made["qsgd-4"].items():
        step = np.abs(theirs[theirs != 0]).min()
        assert np.abs(found[name][found[name] != 0]).min() == pytest.approx(step, rel=1e-5)
        assert np.abs(found[name] - theirs).max() < 1.01 * step
        assert (found[name] != 0).mean() == pytest.approx((theirs != 0).mean(), abs=4 * (0.25 / theirs.size) ** 0.5)


OPENFL = """
without_its_imports("openfl.pipelines")
from openfl.pipelines.eden_pipeline import EdenPipeline
from openfl.pipelines.kc_pipeline import KCPipeline
from openfl.pipelines.stc_pipeline import STCPipeline

pipelines = {"stc": STCPipeline(), "kc": KCPipeline(), "eden": EdenPipeline(), "eden-2": EdenPipeline(2)}
for case, pipeline in pipelines.items():
    made[case] = {n: pipeline.backward(*pipeline.forward(v)) for n, v in given.items()}
"""


def test_openfl(tmp_path):
    update = drawn()
    # Its own reshape names an argument that numpy 2.4 has no more.
    made = Framework(tmp_path, ("--no-deps", "openfl"), ("scikit-learn", "numpy<2.1"))(OPENFL, update)
    assert relative(ours("openfl-stc", update), made["stc"]) < 1e-6
    # Clusters are found from random starts: as close to the update, and as many.
    assert relative(ours("openfl-kc", update), update) == pytest.approx(relative(made["kc"], update), rel=0.02)
    assert all(len(np.unique(g)) == 6 for g in ours("openfl-kc", update).values())
    # Rotations are drawn anew for each: the error that rounding leaves is the same.
    for spec, case in (("openfl-eden", "eden"), ("openfl-eden:n_bits=2", "eden-2")):
        found, theirs = ours(spec, update), made[case]
        assert np.array_equal(found["a.bias"], theirs["a.bias"])  # of no more entries than the threshold
        for name in ("b.weight", "c.weight"):
            one = {name: update[name]}
            errors = [relative({name: arrays[name]}, one) for arrays in (found, theirs)]
            assert errors[0] == pytest.approx(errors[1], rel=0.05)


OPACUS = """
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer

net = torch.load("net.pt", weights_only=False)
private = GradSampleModule(net.train())
for case, multiplier in (("clipped", 0.0), ("noisy", 0.5)):
    plain = torch.optim.SGD(private.parameters(), lr=0.0)
    optimiser = DPOptimizer(plain, noise_multiplier=multiplier, max_grad_norm=0.3, expected_batch_size=len(given["y"]))
    logits = private(torch.from_numpy(given["x"]))
    torch.nn.functional.cross_entropy(logits, torch.from_numpy(given["y"])).backward()
    optimiser.pre_step()
    made[case] = {n.removeprefix("_module."): p.grad.clone() for n, p in private.named_parameters()}
    optimiser.zero_grad()
"""


def sent_by_client(spec: str, truths: torch.Tensor, labels: list[int]) -> Arrays:
    """Return what the audit's client sends of some clips under a framework's defence."""
    view = view_of(seeded(flat), truths, labels)
    batch = len(labels)
    defences = tuple(map(str, parse_all([spec], ClientTraining(clips=batch))))
    client = view.client.under(replace(view.client.protocol, defence=defences, clients=batch, batch=batch))
    return {n: g.numpy() for n, g in client.update(truths, client.targets(labels)).gradients.items()}


def test_opacus(tmp_path):
    net = seeded(flat)
    truths, labels = torch.stack([clip(5 + k) for k in range(4)]), [3, 1, 4, 0]
    torch.save(net, tmp_path / "net.pt")
    given = {"x": truths.transpose(1, 2).contiguous().numpy(), "y": np.array(labels)}
    made = Framework(tmp_path, ("--no-deps", "opacus"), ("--no-deps", "opt-einsum"))(OPACUS, given)
    clipped = sent_by_client("opacus-dp-sgd:noise_multiplier=0,max_grad_norm=0.3", truths, labels)
    assert relative(clipped, made["clipped"]) < 1e-5
    noisy = sent_by_client("opacus-dp-sgd:noise_multiplier=0.5,max_grad_norm=0.3", truths, labels)
    theirs = every(made["noisy"]) - every(made["clipped"])
    assert (every(noisy) - every(clipped)).std() == pytest.approx(theirs.std(), rel=0.03)


FEDBIOMED = """
from fedbiomed.common.privacy import DPController

control = DPController({"type": "central", "sigma": 2.0, "clip": 0.3})
made["during"] = {"multiplier": control._dp_args["sigma"], "norm": control._dp_args["clip"]}
made["noisy"] = control.after_training({n: torch.from_numpy(v).clone() for n, v in given.items()}, renaming=False)
"""


def test_fedbiomed(tmp_path):
    """It clips in Opacus, whose noise it switches off, and adds its own once to the weights after training."""
    update = drawn()
    made = Framework(tmp_path, ("fedbiomed",))(FEDBIOMED, update)
    assert float(made["during"]["multiplier"]) == 0.0
    clipping, noise = map(str, parse_all(["fedbiomed-central:sigma=2,clip=0.3"]))
    assert clipping == f"clip:{float(made['during']['norm'])!r}"
    theirs = every(made["noisy"]) - every(update)
    assert (every(ours(noise, update)) - every(update)).std() == pytest.approx(theirs.std(), rel=0.03)
