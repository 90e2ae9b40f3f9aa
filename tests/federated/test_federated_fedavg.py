"""A FedAvg client against torch's own SGD, finite differences and what a single step must be."""

import dataclasses

import pytest
import torch
from bench_nets import clip, flat, pooled, seeded, target_of
from torch import nn

from auditor.federated import LocalClient, observe
from auditor.model.loading import load
from auditor.records import FederatedProtocol

CLIPS, LABELS = torch.stack([clip(1), clip(2), clip(3)]), torch.tensor([3, 5, 1])


def client_of(net, **choices) -> LocalClient:
    target = target_of(net)
    choices = {"algorithm": "FedAvg", "batch": 3, **choices}
    return LocalClient(target.model, FederatedProtocol(sent=tuple(target.parameters), **choices))


def by_torch(net, clips, labels, *, epochs, size, rate, momentum, orders) -> dict[str, torch.Tensor]:
    """Train a copy by torch.optim.SGD and return w0 - wT."""
    start = {n: p.detach().clone() for n, p in net.named_parameters()}
    optimiser = torch.optim.SGD(net.parameters(), lr=rate, momentum=momentum)
    for epoch in range(epochs):
        for chosen in orders[epoch].split(size):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(clips[chosen].transpose(1, 2)), labels[chosen]).backward()
            optimiser.step()
    return {n: start[n] - p.detach() for n, p in net.named_parameters()}


def off(ours, theirs) -> float:
    gap = sum(float((ours[n] - g).double().square().sum()) for n, g in theirs.items())
    return (gap / sum(float(g.double().square().sum()) for g in theirs.values())) ** 0.5


def test_one_local_step_is_the_rate_times_the_gradient():
    client = client_of(seeded(flat), learning_rate=0.1)
    sent = observe(client, CLIPS, LABELS)
    gradient = observe(client.under(dataclasses.replace(client.protocol, algorithm="FedSGD")), CLIPS, LABELS)
    assert sent.algorithm == "FedAvg"
    assert gradient.algorithm == "FedSGD"
    assert off({n: g * 0.1 for n, g in gradient.gradients.items()}, sent.gradients) < 1e-5
    assert client.protocol.scale == pytest.approx(0.1)


def test_a_rate_of_zero_sends_nothing():
    sent = observe(client_of(seeded(flat), local_epochs=3, local_batch=1, learning_rate=0.0), CLIPS, LABELS)
    assert all(float(g.abs().max()) == 0.0 for g in sent.gradients.values())


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("size", [0, 2])
def test_local_training_is_that_of_torch(momentum, size):
    choices = {"local_epochs": 3, "local_batch": size, "learning_rate": 0.05, "momentum": momentum}
    sent = observe(client_of(seeded(flat), **choices), CLIPS, LABELS)
    orders = [torch.arange(3)] * 3
    wanted = by_torch(
        seeded(flat),
        CLIPS,
        LABELS,
        epochs=3,
        size=size or 3,
        rate=0.05,
        momentum=momentum,
        orders=orders,
    )
    assert off(sent.gradients, wanted) < 1e-5


def test_scale_counts_mean_gradients():
    protocol = FederatedProtocol(
        algorithm="FedAvg", batch=4, local_batch=2, local_epochs=3, learning_rate=0.1, momentum=0.5
    )
    velocity = total = 0.0
    for _ in range(protocol.steps):
        velocity = 0.5 * velocity + 1.0
        total += 0.1 * velocity
    assert protocol.steps == 6
    assert protocol.scale == pytest.approx(total)
    assert FederatedProtocol(batch=4, local_batch=2, local_epochs=3).steps == 1
    assert FederatedProtocol(learning_rate=0.1).scale == 1.0


def test_the_order_of_clips_is_the_clients_own_and_does_not_matter_to_a_whole_batch():
    public = client_of(seeded(flat), local_batch=1, local_epochs=2, learning_rate=0.1)
    first, again, other = (observe(public.with_seed(s), CLIPS, LABELS).gradients for s in (1, 1, 5))
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert off(first, other) > 1e-4
    orders = [torch.randperm(3, generator=g) for g in [torch.Generator().manual_seed(1)] for _ in range(2)]
    assert (
        off(
            first,
            by_torch(seeded(flat), CLIPS, LABELS, epochs=2, size=1, rate=0.1, momentum=0.0, orders=orders),
        )
        < 1e-5
    )
    whole = public.under(dataclasses.replace(public.protocol, local_batch=3))
    assert all(
        torch.equal(observe(whole.with_seed(1), CLIPS, LABELS).gradients[n], g)
        for n, g in observe(whole.with_seed(5), CLIPS, LABELS).gradients.items()
    )


def test_the_unrolled_update_agrees_with_finite_differences():
    net = seeded(flat).double()
    target = target_of(seeded(flat))
    model = target.model.over(net)
    protocol = FederatedProtocol(
        algorithm="FedAvg",
        batch=2,
        local_epochs=2,
        local_batch=1,
        learning_rate=0.2,
        momentum=0.5,
        sent=tuple(target.parameters),
    )
    client = LocalClient(model, protocol)
    x, y = CLIPS[:2].double(), LABELS[:2]
    g = torch.Generator().manual_seed(0)
    direction = torch.randn(x.shape, generator=g, dtype=torch.float64)
    weights = {n: torch.randn(p.shape, generator=g, dtype=torch.float64) for n, p in net.named_parameters()}

    def projected(clips, create_graph=False):
        made = client(clips, y, create_graph=create_graph)
        return torch.stack([(weights[n] * m).sum() for n, m in made.items()]).sum()

    probe = x.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(projected(probe, create_graph=True), probe)
    step = 1e-5
    central = (projected(x + step * direction) - projected(x - step * direction)) / (2 * step)
    assert float((slope * direction).sum()) == pytest.approx(float(central), rel=1e-6)


def test_with_and_without_graph_the_update_is_the_same():
    client = client_of(seeded(flat), local_epochs=3, learning_rate=0.1, momentum=0.9)
    plain, graph = client(CLIPS, LABELS), client(CLIPS, LABELS, create_graph=True)
    assert all(torch.equal(plain[n], graph[n].detach()) for n in plain)


def test_the_model_keeps_its_weights_and_only_what_is_sent_moves():
    net = seeded(flat)
    target = target_of(net)
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    protocol = FederatedProtocol(algorithm="FedAvg", local_epochs=3, learning_rate=0.1, sent=("5.weight", "5.bias"))
    sent = observe(LocalClient(target.model, protocol), CLIPS, LABELS)
    assert set(sent.gradients) == {"5.weight", "5.bias"}
    assert all(torch.equal(before[n], p.detach()) for n, p in net.named_parameters())
    head = seeded(flat)
    for name, parameter in head.named_parameters():
        parameter.requires_grad_(name.startswith("5."))
    wanted = by_torch(head, CLIPS, LABELS, epochs=3, size=3, rate=0.1, momentum=0.0, orders=[torch.arange(3)] * 3)
    assert off(sent.gradients, {n: wanted[n] for n in sent.gradients}) < 1e-5


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_onnx_file_trains_as_its_module_does(tmp_path):
    net, path = seeded(flat), tmp_path / "net.onnx"
    torch.onnx.export(net, (torch.rand(1, 3, 4, 16, 16),), str(path), dynamo=False)
    imported = load(str(path))
    choices = {"algorithm": "FedAvg", "batch": 3, "local_epochs": 2, "learning_rate": 0.1, "momentum": 0.9}
    theirs = LocalClient(imported.model, FederatedProtocol(sent=tuple(imported.parameters), **choices))
    ours = observe(client_of(seeded(flat), local_epochs=2, learning_rate=0.1, momentum=0.9), CLIPS, LABELS).gradients
    made = observe(theirs, CLIPS, LABELS).gradients
    assert off(dict(zip(ours, made.values(), strict=True)), ours) < 1e-4
    assert not any(g.requires_grad for g in made.values())


def test_other_public_weights_are_another_start():
    client = client_of(seeded(flat), algorithm="FedSGD")
    elsewhere = {n: p.detach() + 0.1 for n, p in client.model.named_parameters()}
    net = seeded(flat)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1
    moved = observe(client.at(elsewhere), CLIPS, LABELS).gradients
    assert off(moved, observe(client_of(net, algorithm="FedSGD"), CLIPS, LABELS).gradients) < 1e-6
    with pytest.raises(LookupError, match="no parameter"):
        observe(client.at({"nothing": torch.zeros(1)}), CLIPS, LABELS)


class Recurrent(nn.Module):
    """A GRU over frames, and a head whose weight another layer shares."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3 * 16 * 16, 12)
        self.recurrent = nn.GRU(12, 10, batch_first=True)
        self.again = nn.Linear(10, 10)
        self.head = nn.Linear(10, 10)
        self.head.weight = self.again.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen, _ = self.recurrent(self.first(x.transpose(1, 2).flatten(2)))
        return self.head(self.again(seen[:, -1]).tanh())


def test_recurrent_nets_and_shared_weights_move_as_under_torch():
    sent = observe(client_of(seeded(Recurrent), local_epochs=4, learning_rate=0.3), CLIPS, LABELS).gradients
    wanted = by_torch(
        seeded(Recurrent),
        CLIPS,
        LABELS,
        epochs=4,
        size=3,
        rate=0.3,
        momentum=0.0,
        orders=[torch.arange(3)] * 4,
    )
    assert off(sent, wanted) < 1e-5


def test_buffers_follow_every_local_step():
    net = seeded(pooled)
    client = client_of(seeded(pooled), local_epochs=3, learning_rate=0.1, bn="train", send_buffers=True)
    sent = observe(client, CLIPS, LABELS)
    net.train()
    by_torch(net, CLIPS, LABELS, epochs=3, size=3, rate=0.1, momentum=0.0, orders=[torch.arange(3)] * 3)
    assert torch.allclose(sent.buffers["1.running_mean"], net[1].running_mean, atol=1e-6)
    assert torch.allclose(sent.buffers["1.running_var"], net[1].running_var, atol=1e-6)
    _, simulated = client.simulate(CLIPS, LABELS)
    solved = client.batch_statistics(sent.buffers, torch.zeros_like(CLIPS))
    for site, statistics in simulated.items():
        assert torch.allclose(solved[site].mean, statistics.mean, atol=1e-4)


def test_dropout_draws_new_masks_at_every_local_step():
    def dropping() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(4 * 3 * 16 * 16, 64), nn.Dropout(0.5), nn.Linear(64, 10))

    public = client_of(seeded(dropping), local_epochs=2, learning_rate=1e-3, dropout="on")
    two = observe(public.with_seed(1), CLIPS, LABELS).gradients["3.weight"]
    once = public.under(dataclasses.replace(public.protocol, local_epochs=1))
    one = observe(once.with_seed(1), CLIPS, LABELS).gradients["3.weight"]
    # With the same masks twice, two small steps would be twice the first.
    assert float((two - 2 * one).norm()) > 0.1 * float(two.norm())
