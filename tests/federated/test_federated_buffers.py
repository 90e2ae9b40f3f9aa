"""BatchNorm buffers against torch's own training step, what they give away, and dropout that only the client knows."""

import pytest
import torch
from bench_nets import CLASSES, SPEC, clip, psnr, seeded, target_of
from torch import nn
from torch.nn import functional as F

from auditor.attack import GradientMatching
from auditor.federated import LocalClient, observe
from auditor.model.video import VideoModel
from auditor.records import Budget, FederatedProtocol, Knowledge, Reconstruction, View

CLIPS = torch.stack([clip(1), clip(2)])


def two_norms(momentum=0.1, again=False) -> nn.Module:
    first = nn.BatchNorm3d(12, momentum=momentum)
    return nn.Sequential(
        nn.Conv3d(3, 12, 3, padding=1, stride=(1, 2, 2)), first, nn.ReLU(),
        *([nn.Conv3d(12, 12, 3, padding=1), first, nn.ReLU()] if again else []),
        nn.Conv3d(12, 24, 3, padding=1, stride=2), nn.BatchNorm3d(24), nn.ReLU(),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(24, CLASSES),
    )  # fmt: skip


def sending(net, batch=2, mode="train", **protocol):
    model = VideoModel(net, SPEC)
    names = tuple(name for name, _ in model.named_parameters())
    return LocalClient(model, FederatedProtocol(batch=batch, sent=names, bn=mode, send_buffers=True, **protocol))


@pytest.mark.parametrize("again", [False, True], ids=["each once", "one layer twice"])
@pytest.mark.parametrize("momentum", [0.1, 0.3, None])
@pytest.mark.parametrize("batch", [1, 2])
def test_buffers_after_the_step_are_those_of_a_plain_training_step(batch, momentum, again):
    def trained_before() -> nn.Module:
        net = two_norms(momentum, again)
        net.train()
        with torch.no_grad():
            net(torch.rand(2, 3, 4, 16, 16))
        return net.eval()

    net, labels = seeded(trained_before), torch.arange(batch)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    update = observe(sending(net, batch), CLIPS[:batch], labels)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())

    twin = seeded(trained_before).train()
    F.cross_entropy(twin(CLIPS[:batch].transpose(1, 2)), labels).backward()
    assert update.buffers
    for name, value in update.buffers.items():
        assert torch.allclose(value, twin.state_dict()[name], rtol=1e-5, atol=1e-7), name
        assert not torch.allclose(value, before[name], rtol=1e-3)
    for name, parameter in twin.named_parameters():
        assert torch.allclose(update.gradients[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_whoever_sees_the_buffers_knows_the_statistics_of_the_batch():
    net = seeded(two_norms)
    client = sending(net)
    update = observe(client, CLIPS, torch.tensor([3, 5]))
    found = client.batch_statistics(update.buffers, torch.zeros_like(CLIPS))
    seen = net[0](CLIPS.transpose(1, 2)).transpose(0, 1).flatten(1)
    assert torch.allclose(found["1"].mean, seen.mean(1), rtol=1e-4, atol=1e-6)
    assert torch.allclose(found["1"].variance, seen.var(1), rtol=1e-4, atol=1e-6)


def test_buffers_travel_only_where_the_protocol_sends_them():
    target = target_of(seeded(two_norms))
    client = LocalClient(target.model, FederatedProtocol(sent=tuple(target.parameters), bn="train"))
    assert not observe(client, CLIPS, torch.tensor([3, 5])).buffers


def test_buffers_give_away_the_brightness_that_batch_statistics_hide():
    """With batch statistics the net sees clips less their mean and scale; measured: 6.9 dB without, 19.2 with."""
    dark = 0.3 * clip(6)[None] + 0.05
    target = target_of(seeded(two_norms))
    reached = []
    for send in (False, True):
        client = sending(target.model.network, batch=1)
        client = client if send else client.under(FederatedProtocol(sent=client.names, bn="train"))
        view = View(
            target=target,
            client=client,
            update=observe(client, dark, torch.tensor([3])),
            knowledge=Knowledge(clip_shape=SPEC.clip_shape, batch=1, classes=CLASSES, labels=(3,)),
        )
        made = GradientMatching().invert(view, Budget(seconds=300.0, steps=100), 0)
        assert isinstance(made, Reconstruction)
        reached.append(psnr(made.clips[0], dark[0]))
    assert reached[1] > reached[0] + 5.0


def dropping() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(3, 12, 3, padding=1, stride=(1, 2, 2)), nn.ReLU(), nn.Dropout3d(0.3), nn.AdaptiveAvgPool3d(1),
        nn.Flatten(), nn.Dropout(0.5), nn.Linear(12, CLASSES),
    )  # fmt: skip


def test_dropout_is_the_clients_own_and_a_training_step_with_its_masks():
    net = seeded(dropping)
    names = tuple(name for name, _ in net.named_parameters())
    public = LocalClient(VideoModel(net, SPEC), FederatedProtocol(sent=names, dropout="on"))
    labels = torch.tensor([3, 5])
    own, other = (observe(public.with_seed(seed), CLIPS, labels).gradients["0.weight"] for seed in (1, 2))
    again = observe(public.with_seed(1), CLIPS, labels).gradients["0.weight"]
    without = observe(public, CLIPS, labels).gradients["0.weight"]
    assert torch.equal(own, again)
    assert float((own - other).norm()) > 0.05 * float(own.norm())
    assert float((own - without).norm()) > 0.05 * float(own.norm())

    torch.manual_seed(7)
    state = torch.get_rng_state()
    observe(public.with_seed(1), CLIPS, labels)
    assert torch.equal(state, torch.get_rng_state())

    twin = seeded(dropping).train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        F.cross_entropy(twin(CLIPS.transpose(1, 2)), labels).backward()
    assert torch.allclose(own, twin[0].weight.grad, atol=1e-6)
    off = LocalClient(public.model, FederatedProtocol(sent=names)).with_seed(1)
    assert torch.equal(observe(off, CLIPS, labels).gradients["0.weight"], without)
