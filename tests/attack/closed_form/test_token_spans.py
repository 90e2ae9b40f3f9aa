"""Token spans: transformers with fixed and frozen positions give their clip away, with a certificate."""

from dataclasses import replace

import pytest
import torch
from bench_nets import SPEC, Transformer, clip, flat, psnr, seeded, view_of
from token_nets import FixedVit
from torch import nn

from auditor.attack.closed_form.token_linear import linear_part, smoothest
from auditor.attack.closed_form.token_problem import Span, TokenProblem, pose
from auditor.attack.closed_form.token_refinement import CERTAIN, refine
from auditor.attack.closed_form.token_spans import TokenSpans
from auditor.attack.closed_form.token_units import sliced
from auditor.attack.recursion.call_graph import trace_client
from auditor.federated import LocalClient
from auditor.model import load
from auditor.prior.spectrum import Spectrum
from auditor.records import Budget, Clock, FederatedProtocol, Knowledge, Outcome, Reconstruction, Skipped, Update, View

ATTACK = TokenSpans()
BUDGET = Budget(seconds=120.0, steps=100)


def posed(net, truth) -> TokenProblem:
    problem = pose(view_of(net, truth[None], [3]))
    assert isinstance(problem, TokenProblem)
    return problem


def coordinates(problem: TokenProblem, truth: torch.Tensor) -> torch.Tensor:
    grid = problem.embedding.grid
    pixels = truth.double().reshape(-1)[grid.pixel]
    return ((pixels - 0.5) * grid.scale + grid.centre) @ problem.rows.T


def test_the_true_tokens_lie_in_every_span_and_others_do_not():
    truth = clip(1)
    problem = posed(seeded(FixedVit), truth)
    m = coordinates(problem, truth)
    assert psnr(problem.clip(m), truth) > 90.0
    assert len(problem.spans) >= 3
    at_truth = problem.residuals(m, problem.context(m)).norm(dim=1)
    assert float(at_truth.max()) < CERTAIN
    other = m.clone()
    other[3] = m[4]
    moved = problem.residuals(other, problem.context(other)).norm(dim=1)
    assert float(moved[3]) > 10.0 * CERTAIN


def test_a_token_reads_nothing_of_the_others_where_the_context_is_held():
    truth = clip(1)
    problem = posed(seeded(FixedVit), truth)
    m = coordinates(problem, truth)
    held = problem.context(m)
    moved = m.clone()
    moved[7] += 0.1
    before, after = problem.residuals(m, held), problem.residuals(moved, held)
    others = torch.arange(len(m)) != 7
    assert torch.equal(before[others], after[others])
    assert float((before[7] - after[7]).norm()) > 0.0
    free = problem.residuals(moved, problem.context(moved))
    assert not torch.equal(before[others], free[others])


def test_a_random_table_is_solved_by_linear_algebra_and_a_sine_table_only_in_part():
    truth = clip(2)
    frozen = posed(seeded(lambda: FixedVit(kind="random")), truth)
    start, free = linear_part(frozen, frozen.graph.graph)
    assert len(free) == 0
    assert psnr(frozen.clip(start), truth) > 45.0
    fixed = posed(seeded(FixedVit), truth)
    start, free = linear_part(fixed, fixed.graph.graph)
    # What is open is shared by all positions: about as many directions as the table's rank lacks.
    assert 5 <= len(free) <= 20
    off = coordinates(fixed, truth) - start
    assert float((off - (off @ free.T) @ free).norm() / off.norm()) < 0.2
    filled = smoothest(fixed, start, free, torch.ones(len(start), dtype=torch.bool), Spectrum())
    assert psnr(fixed.clip(filled), truth) > psnr(fixed.clip(start), truth) + 5.0


CASES = {
    "sin-cos table": lambda: FixedVit(),
    "sin-cos table, class token, wider": lambda: FixedVit(128, token=True),
    "frozen table": lambda: FixedVit(kind="random"),
    "PyTorch's own layer, frozen table": lambda: Transformer(learned=False),
    "PyTorch's own layer, Linear embedding, class token": lambda: Transformer(learned=False, linear=True, token=True),
}


@pytest.mark.parametrize("name", CASES)
def test_a_transformer_without_learned_positions_gives_its_clip_away(name):
    truth = clip(1)
    view = view_of(seeded(CASES[name]), truth[None], [3], known=False)
    made = ATTACK.invert(view, BUDGET, 0)
    assert isinstance(made, Reconstruction)
    assert made.outcome is Outcome.SOLVED
    assert psnr(made.clips[0], truth) > 60.0
    assert made.certificate["span_residual"] < CERTAIN
    assert made.certificate["tokens_certain"] == 1.0


def test_what_time_cuts_short_is_not_certified():
    truth = clip(1)
    made = ATTACK.invert(view_of(seeded(FixedVit), truth[None], [3]), Budget(seconds=0.01, steps=1), 0)
    assert made.outcome is Outcome.UNVERIFIED
    assert made.certificate["span_residual"] > CERTAIN


def test_tokens_of_one_position_may_stand_for_each_other_and_are_not_certified():
    net, truth = seeded(lambda: FixedVit(kind="random")), clip(1)
    assert posed(net, truth).apart() > 0.1
    # As where all frames share one table: the update is the same for every order of frames.
    net.table[16:] = net.table[:16]
    assert posed(net, truth).apart() < 1e-9
    swapped = truth.reshape(2, 2, *truth.shape[1:]).flip(0).reshape(truth.shape)
    here, there = (view_of(net, t[None], [3]).update.gradients for t in (truth, swapped))
    assert all(torch.allclose(here[n], there[n], atol=1e-5 * float(here[n].abs().max())) for n in here)
    made = ATTACK.invert(view_of(net, truth[None], [3]), BUDGET, 0)
    assert isinstance(made, Reconstruction)
    assert made.outcome is Outcome.UNVERIFIED
    assert "their order is open" in made.notes[0]


def test_tokens_that_stand_out_start_again():
    # A token-wise problem with two minima: |m|^2 - 1 along one axis, whose sign a weak term tells.
    def residuals(m, held):
        return torch.stack([m[:, 0] ** 2 - 1.0, 0.3 * (m[:, 0] - 1.0), m[:, 1] - 0.5], dim=1)

    start = torch.tensor([[0.9, 0.0], [1.1, 0.2], [-0.8, 0.1]], dtype=torch.float64)
    free = torch.eye(2, dtype=torch.float64)
    made = refine(residuals, lambda m: {}, start, free, lambda d: d, lambda m, which: m, Clock(20.0), 0)
    assert torch.allclose(made.coordinates, torch.tensor([[1.0, 0.5]], dtype=torch.float64).expand(3, 2), atol=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_imported_graph_gives_what_the_module_gives(tmp_path):
    net, truth = seeded(FixedVit), clip(1)
    torch.onnx.export(net, (torch.rand(1, *SPEC.clip_shape).transpose(1, 2),), str(tmp_path / "n.onnx"), dynamo=False)
    target = load(str(tmp_path / "n.onnx"))
    client = LocalClient(target.model, FederatedProtocol(sent=tuple(target.parameters)))
    knows = Knowledge(clip_shape=SPEC.clip_shape, batch=1, classes=10, labels=(3,))
    view = View(target=target, client=client, update=client.update(truth[None], torch.tensor([3])), knowledge=knows)
    made = ATTACK.invert(view, BUDGET, 0)
    assert isinstance(made, Reconstruction), made
    assert psnr(made.clips[0], truth) > 60.0


def test_what_is_missing_is_said_in_one_clause():
    two = torch.stack([clip(0), clip(1)])
    assert "64 tokens stand against 64 features" in ATTACK.obstacle(view_of(seeded(FixedVit), two, [3, 4]))
    assert "2 clips share the update" in ATTACK.obstacle(view_of(seeded(FixedVit), two, [3, 4], known=False))
    assert "no Linear layer reads several tokens" in ATTACK.obstacle(view_of(seeded(flat), clip()[None], [3]))
    narrow = view_of(seeded(lambda: FixedVit(32)), clip()[None], [3])
    assert "32 tokens stand against 32 features" in ATTACK.obstacle(narrow)
    assert "fewer than 32 tokens" in ATTACK.obstacle(narrow)


def test_patches_that_overlap_are_no_tokens():
    """As in MViT, and in any 2-D or 3-D convolutional net."""

    class Overlapping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.mix, self.head = nn.Conv3d(3, 96, 3, 4, 1), nn.Linear(96, 96), nn.Linear(96, 10)

        def forward(self, x):
            return self.head(self.mix(self.embed(x).flatten(2).transpose(1, 2)).relu().mean(1))

    told = ATTACK.obstacle(view_of(seeded(Overlapping), clip()[None], [3]))
    assert told.startswith("embed reads patches that overlap (kernel 3x3x3 and stride 4x4x4)")


def test_some_hidden_units_are_worked_out_alone_and_like_all_of_them():
    graph = trace_client(view_of(seeded(FixedVit), clip()[None], [3]))
    value = next(call.inputs[0] for call in graph.calls if call.weight == "blocks.0.down.weight")
    units, calls = sliced(graph, value, 40)
    assert len(units) == 40
    assert len({graph.calls[place].name for place in calls}) >= 2
    # Units behind a norm of their own read each other: they cannot be told apart.
    norm = next(call.outputs[0] for call in graph.calls if call.name == "layer_norm")
    assert sliced(graph, norm, 40) == (None, {})


def test_directions_that_rounding_hides_of_a_span_are_read_off_the_rows():
    g = torch.Generator().manual_seed(0)
    space = torch.linalg.qr(torch.randn(30, 12, generator=g, dtype=torch.float64)).Q.T
    outside = torch.linalg.svd(space[:10], full_matrices=True)[2][10:]
    span = Span(0, space[:10], False, outside, torch.full((10,), 1e-8, dtype=torch.float64), lost=2)
    rows = torch.randn(20, 12, generator=g, dtype=torch.float64) @ space
    assert float(span.distance(rows).norm(dim=1).min()) > 0.05
    assert float(span.distance(rows, span.hidden(rows)).norm(dim=1).max()) < 1e-12
    rows[3] = torch.randn(30, generator=g, dtype=torch.float64)
    off = span.distance(rows, span.hidden(rows)).norm(dim=1)
    assert float(off[3]) > 0.1


def test_half_of_another_clips_update_is_not_certified():
    view, other = (view_of(seeded(FixedVit), clip(n)[None], [3]) for n in (1, 2))
    mixed = {n: other.update.gradients[n] if "up" in n or "down" in n else g for n, g in view.update.gradients.items()}
    made = ATTACK.invert(replace(view, update=Update(gradients=mixed, batch=1)), Budget(seconds=20.0, steps=1), 0)
    assert isinstance(made, Skipped) or made.outcome is Outcome.UNVERIFIED


def few_tokens(kind: str) -> FixedVit:
    """Eight tokens of 384 pixels: two clips have sixteen, and 48 features."""
    return FixedVit(48, tokens=8, kind=kind, side=8)


@pytest.mark.parametrize(
    "kind", ["learned", pytest.param("random", marks=pytest.mark.slow), pytest.param("sin-cos", marks=pytest.mark.slow)]
)
def test_two_clips_of_one_update_are_parted_by_what_each_token_reads_of_its_own_clip(kind):
    truth = torch.stack([clip(1), clip(2)])
    made = ATTACK.invert(view_of(seeded(lambda: few_tokens(kind)), truth, [3, 4]), BUDGET, 0)
    assert isinstance(made, Reconstruction), made
    reached = torch.tensor([[psnr(found, one) for one in truth] for found in made.clips])
    best = reached.argmax(1)
    assert sorted(best.tolist()) == [0, 1]
    assert float(reached.amax(1).min()) > 60.0
    assert made.outcome is Outcome.SOLVED
    assert list(made.labels) == [(3, 4)[int(which)] for which in best]


@pytest.mark.slow
def test_two_updates_mixed_and_noise_certify_nothing_of_two_clips():
    net, truth = seeded(lambda: few_tokens("learned")), torch.stack([clip(1), clip(2)])
    view, other = view_of(net, truth, [3, 4]), view_of(net, truth.flip(-1), [3, 4])
    mixed = {n: (other if place % 2 else view).update.gradients[n] for place, n in enumerate(view.update.gradients)}
    noise = {n: torch.randn(g.shape, generator=torch.Generator().manual_seed(1)) for n, g in mixed.items()}
    for gradients in (mixed, noise):
        made = ATTACK.invert(replace(view, update=Update(gradients=gradients, batch=2)), BUDGET, 0)
        assert isinstance(made, Skipped) or made.outcome is Outcome.UNVERIFIED
