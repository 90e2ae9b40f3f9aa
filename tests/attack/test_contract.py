"""What every attack of the catalogue promises, whatever it does inside."""

import dataclasses
import gc
import re
from collections.abc import Iterator
from functools import cache
from types import FunctionType, MethodType, ModuleType

import emulated_device
import pytest
import torch
from attack_cases import BUDGET, CASES, SPEC, case_of, run
from bench_nets import clip, psnr
from emulated_device.checking import a_step, difference, on_device
from torch import Tensor

from auditor.attack import ATTACKS, BY_NAME
from auditor.records import FederatedProtocol, Outcome, Reconstruction, Skipped, View

EVERY = pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.name)


def solved(attack):
    """The attack's own case and what it makes of it."""
    found = case_of(attack.name)
    assert found is not None, f"no case in attack_cases.py lets {attack.name} make a reconstruction: add one"
    return found


def is_sound(result, view: View) -> None:
    """Nothing was raised, and what came out is a value that the pipeline can use."""
    if isinstance(result, str):
        return
    assert isinstance(result, Reconstruction | Skipped)
    if isinstance(result, Skipped):
        assert result.reason
        return
    assert result.clips.shape == (view.update.batch, *view.knowledge.clip_shape)
    assert bool(torch.isfinite(result.clips).all())
    assert float(result.clips.min()) >= 0.0
    assert float(result.clips.max()) <= 1.0
    assert not result.clips.requires_grad
    assert len(result.labels) == view.update.batch


@EVERY
def test_it_says_what_it_is(attack):
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", attack.name)
    assert sum(a.name == attack.name for a in ATTACKS) == 1
    assert attack.title[0].isupper()
    assert re.search(r"arXiv:? ?\d{4}\.\d{4,5}|\b(19|20)\d\d\b", attack.source), "no citation"
    assert repr(attack).startswith(type(attack).__name__ + "(")
    with pytest.raises(dataclasses.FrozenInstanceError):
        attack.name = "other"


@EVERY
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_an_obstacle_is_one_clause(attack, case):
    said = attack.obstacle(case.view(case.clips()))
    if said is not None:
        assert said.strip() == said
        assert 0 < len(said) <= 200
        assert "\n" not in said
        assert not said.endswith(".")


@dataclasses.dataclass(frozen=True)
class Again:
    """A second run with the same seed, of a view whose clips were overwritten; and what changed around it."""

    made: Reconstruction
    random_state_kept: bool
    weights_kept: bool
    gradients_kept: bool


@cache
def again(name: str) -> Again:
    """Run the attack of this name once more; both tests that need it share the run."""
    attack = next(a for a in ATTACKS if a.name == name)
    case, _ = solved(attack)
    truth = case.clips()
    view = case.view(truth)
    # Whoever kept the clips, a view of them or something computed lazily from them would now find garbage.
    truth.fill_(float("nan"))
    weights = {n: p.detach().clone() for n, p in view.target.parameters.items()}
    sent = {n: g.clone() for n, g in view.update.gradients.items()}
    torch.manual_seed(12345)  # an attack has its own seed: torch's may be anything
    state = torch.random.get_rng_state()
    made = run(attack, view)
    assert isinstance(made, Reconstruction)
    return Again(
        made=made,
        random_state_kept=torch.equal(torch.random.get_rng_state(), state),
        weights_kept=all(torch.equal(weights[n], p.detach()) for n, p in view.target.parameters.items()),
        gradients_kept=all(torch.equal(sent[n], g) for n, g in view.update.gradients.items()),
    )


@EVERY
def test_the_same_seed_gives_the_same_clips_and_nothing_else_changes(attack):
    _, made = solved(attack)
    second = again(attack.name)
    assert second.made.labels == made.labels
    assert second.made.attack == attack.name
    assert second.random_state_kept, "torch's generator was used"
    assert second.weights_kept
    assert second.gradients_kept


@EVERY
def test_what_is_reported_is_what_the_clips_score(attack):
    case, _ = solved(attack)
    view = case.view(case.clips())
    made = run(attack, view, budget=dataclasses.replace(BUDGET, checkpoints=6))
    assert isinstance(made, Reconstruction)
    again = attack.measure(view, made.clips, made.labels)
    assert again is None or again == pytest.approx(made.objective, rel=2e-3, abs=2e-6)
    is_sound(made, view)
    # Steps go up; the best so far never gets worse; what is reported is the best of the whole course.
    for points in (made.trace, made.checkpoints):
        assert [p.step for p in points] == sorted({p.step for p in points})
    best = [c.objective for c in made.checkpoints]
    assert best == sorted(best, reverse=True)
    if made.trace:
        assert made.objective <= min(t.objective for t in made.trace) * (1 + 2e-3) + 2e-6
        assert made.restart_objectives
        assert made.objective == min(made.restart_objectives)
        assert 0 < made.steps <= BUDGET.steps
    if attack.closed_form:
        assert made.outcome in (Outcome.SOLVED, Outcome.UNVERIFIED)
        assert made.certificate


@EVERY
def test_a_closed_form_solves_its_case_and_a_search_lowers_its_objective(attack):
    case, made = solved(attack)
    view, truth = case.view(case.clips()), case.clips()
    if attack.closed_form:
        assert made.outcome is Outcome.SOLVED
        nearest = [max(psnr(one, t) for one in made.clips) for t in truth]
        assert min(nearest) > 40.0
        return
    assert made.objective < 0.9 * made.trace[0].objective
    # At the truth itself there is nothing left but rounding, unless how the client trained was guessed.
    at_truth = attack.measure(view, truth, tuple(range(len(truth))))
    assert at_truth is None or at_truth < (1e-6 if getattr(attack, "known", True) else made.objective)


def _with(view: View, change) -> View:
    gradients = {n: change(g.clone()) for n, g in view.update.gradients.items()}
    return dataclasses.replace(view, update=dataclasses.replace(view.update, gradients=gradients))


def _one_bad(value: float):
    def change(g: Tensor) -> Tensor:
        g = g.contiguous()
        g.view(-1)[0] = value
        return g

    return change


ONE_FRAME = dataclasses.replace(SPEC, frames=1)
DEGENERATE = {
    "a NaN": lambda c: _with(c.view(c.clips()), _one_bad(float("nan"))),
    "all NaN": lambda c: _with(c.view(c.clips()), lambda g: g * float("nan")),
    "an infinity": lambda c: _with(c.view(c.clips()), _one_bad(float("inf"))),
    "overflow": lambda c: _with(c.view(c.clips()), lambda g: (g * 1e30).clamp(-3e38, 3e38) * 1e8),
    "underflow": lambda c: _with(c.view(c.clips()), lambda g: g * 1e-36),
    "zero": lambda c: _with(c.view(c.clips()), torch.zeros_like),
    "biases only": lambda c: c.view(c.clips(), sent=lambda name: name.endswith("bias")),
    "the head only": lambda c: c.view(c.clips(), sent=lambda name: name.startswith(("head", "4", "3"))),
    "no head": lambda c: c.view(c.clips(), sent=lambda name: not name.startswith(("head", "4", "3"))),
    "one class": lambda c: c.view(c.clips(), classes=1),
    "one frame": lambda c: c.view(c.clips(spec=ONE_FRAME), spec=ONE_FRAME),
    "grey": lambda c: c.view(torch.full_like(c.clips(), 0.5)),
    "black": lambda c: c.view(torch.zeros_like(c.clips())),
    "batch of 4": lambda c: c.view(torch.stack([clip(k, SPEC) for k in range(4)])),
    "batch of 4, one label": lambda c: c.view(torch.stack([clip(k, SPEC) for k in range(4)]), labels=[3] * 4),
    "labels unknown": lambda c: _unlabelled(c.view(c.clips())),
}


def _unlabelled(view: View) -> View:
    return dataclasses.replace(view, knowledge=dataclasses.replace(view.knowledge, labels=None))


@EVERY
@pytest.mark.parametrize("kind", DEGENERATE)
def test_a_degenerate_update_gives_a_value(attack, kind, monkeypatch):
    case, _ = solved(attack)
    view = DEGENERATE[kind](case)
    # What breaks, breaks in the first steps.
    monkeypatch.setattr("auditor.attack.matching.gradient_matching.LEAST_STEPS", 5)
    monkeypatch.setattr("auditor.attack.matching.least_squares_matching._LEAST", 2)
    monkeypatch.setattr("auditor.attack.matching.least_squares_matching._PER_LEVEL", 1)
    is_sound(run(attack, view, budget=dataclasses.replace(BUDGET, steps=8)), view)


@EVERY
def test_the_update_of_another_clip_shows_nothing(attack):
    _, made = solved(attack)
    # Clips of other seeds have nothing in common with those that were sent. Guesses that correlate by chance only are
    # no better than grey; 1 dB covers smooth clips of so few pixels.
    others = [clip(seed, SPEC) for seed in range(50, 58)]
    gains = [max(psnr(one, other) for one in made.clips) - psnr(torch.full_like(other, 0.5), other) for other in others]
    assert max(gains) < 1.0 + len(made.clips) * 0.5
    assert sum(gains) / len(gains) < 0.5


# ------------------------------------------------------------------------------------------------------ other devices

# One of each way of solving or searching, for every test run; the others share their code.
QUICK = {
    "linear-input", "patch-embedding", "spear", "token-spans", "residual-recursion", "layer-recursion-rk",
    "least-squares-matching", "span-inversion", "gradient-matching-r1", "imprint", "unrolled",
}  # fmt: skip
# What another order of sums may cost on a GPU; the emulated device gives the clips of the CPU to the bit.
WITHIN_DB = 0.1


@pytest.mark.parametrize("device", emulated_device.DEVICES)
@pytest.mark.parametrize(
    "attack", [pytest.param(a, id=a.name, marks=() if a.name in QUICK else pytest.mark.slow) for a in ATTACKS]
)
def test_another_device_gives_the_same_clips(attack, device):
    case, expected = solved(attack)
    made, _ = on_device(attack, case, torch.device(device))
    assert isinstance(made, Reconstruction), made
    assert made.clips.device.type == device
    assert made.labels == expected.labels
    assert difference(made, expected, case) <= WITHIN_DB
    assert made.objective == pytest.approx(expected.objective, rel=1e-2, abs=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("name", sorted(QUICK))
def test_a_gpu_gives_the_same_clips_twice(name):
    case, _ = solved(BY_NAME[name])
    first, second = (on_device(BY_NAME[name], case, torch.device("cuda"))[0] for _ in range(2))
    assert torch.equal(first.clips, second.clips)


# How often a step of matching makes the processor wait for the device at most: once for a copy of three numbers, the
# objective, what is descended, and whether its slope is finite. DLG's line search reads the objective where it looks.
WAITS = {"gradient-matching": 1, "least-squares-matching": 5, "dlg": 6}


@pytest.mark.parametrize("name", WAITS)
def test_a_step_waits_no_oftener_than_stated(name):
    attack = BY_NAME[name]
    case, _ = solved(attack)
    # Between these numbers neither attack divides its steps otherwise.
    few_steps = 120 if name.startswith("least-squares") else 60
    budgets = (few_steps, few_steps + 12)
    (_, few), (_, many) = (on_device(attack, case, emulated_device.device(), steps) for steps in budgets)
    waits, copies = a_step(few, many, 12)
    assert waits <= WAITS[name]
    assert copies <= 1


# ------------------------------------------------------------------------------------------------------- blindness


@EVERY
def test_with_the_same_seed_garbage_in_place_of_the_clip_changes_nothing(attack):
    _, made = solved(attack)
    second = again(attack.name).made
    assert torch.equal(second.clips, made.clips)
    assert second.objective == made.objective


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_nothing_that_an_attack_can_reach_holds_the_clip(case):
    truth = case.clips()
    view = case.view(truth)
    assert not list(held(view, truth))
    assert all(not g.requires_grad and g.grad_fn is None for g in view.update.gradients.values())
    assert all(p.grad is None for p in view.target.parameters.values())


def test_nothing_that_the_pipeline_hands_to_an_attack_holds_a_probe():
    from auditor.pipeline.context import observe_probes, set_up, view_of
    from auditor.probe import shipped_probes

    case = CASES[0]
    target = case.view(case.clips()).target
    context = set_up(target, FederatedProtocol(batch=2), torch.device("cpu"), seed=0)
    probes = shipped_probes(SPEC)[:2]
    for observed in observe_probes(context, probes):
        view = view_of(context, observed)
        for truth in (observed.clips, *(p.clip[None] for p in probes)):
            assert not list(held(view, truth))


def test_the_search_for_the_clip_would_find_it():
    case = CASES[0]
    truth = case.clips()
    for leak in (truth, truth[0].clone(), truth.transpose(1, 2).contiguous(), truth.double().flatten()):
        view = case.view(truth)
        view.client.remembered = {"deep": [leak]}
        assert list(held(view, truth)), tuple(leak.shape)
        view = case.view(truth)
        view.target.model.network.hidden = (lambda kept: lambda: kept)(leak)
        assert list(held(view, truth)), tuple(leak.shape)


def held(root: object, truth: Tensor) -> Iterator[Tensor]:
    """Yield every tensor reachable from `root` with the values of a clip, or of all of them, in any order of axes."""
    wanted = [t.double().flatten().sort().values for t in (truth, *truth)]
    seen, left = set(), [root]
    while left:
        one = left.pop()
        if id(one) in seen or isinstance(one, ModuleType | type):
            continue
        seen.add(id(one))
        if isinstance(one, Tensor):
            values = one.detach().double().flatten().sort().values
            if any(values.shape == w.shape and torch.allclose(values, w, atol=1e-6) for w in wanted):
                yield one
            if one.grad is not None:
                left.append(one.grad)
        if isinstance(one, FunctionType):  # never its globals: they are the program
            left += [cell.cell_contents for cell in one.__closure__ or () if _filled(cell)]
            left += [one.__defaults__, one.__kwdefaults__]
        elif isinstance(one, MethodType):
            left += [one.__self__, one.__func__]
        else:
            left += gc.get_referents(one)


def _filled(cell) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
