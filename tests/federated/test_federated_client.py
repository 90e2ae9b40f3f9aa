"""A client's update against autograd by hand and finite differences; what is sent and as which class."""

import pytest
import torch
from bench_nets import clip, flat, pooled, seeded, target_of

from auditor.errors import UsageError
from auditor.federated import LocalClient, assign_labels, observe, select_parameters
from auditor.records import FederatedProtocol


def test_the_update_is_the_gradient_of_the_mean_loss():
    net = seeded(flat)
    target = target_of(net)
    clips, labels = torch.stack([clip(1), clip(2)]), torch.tensor([3, 5])
    client = LocalClient(target.model, FederatedProtocol(batch=2, sent=tuple(target.parameters)))
    loss = torch.nn.functional.cross_entropy(net(clips.transpose(1, 2)), labels)
    by_hand = torch.autograd.grad(loss, list(net.parameters()))
    update = observe(client, clips, labels)
    assert update.batch == 2
    for (name, _), g in zip(net.named_parameters(), by_hand, strict=True):
        assert torch.allclose(update.gradients[name], g, atol=1e-6)
        assert not update.gradients[name].requires_grad


def test_the_update_agrees_with_finite_differences():
    net = seeded(flat).double()
    target = target_of(seeded(flat))
    x, y = clip(1)[None].double(), torch.tensor([3])
    client = LocalClient(target.model, FederatedProtocol(sent=("5.bias",)))
    update = observe(client, x.float(), y).gradients["5.bias"]
    bias, step = net[5].bias, 1e-5
    for i in range(3):
        with torch.no_grad():
            bias[i] += step
            up = torch.nn.functional.cross_entropy(net(x.transpose(1, 2)), y)
            bias[i] -= 2 * step
            down = torch.nn.functional.cross_entropy(net(x.transpose(1, 2)), y)
            bias[i] += step
        assert float(update[i]) == pytest.approx(float((up - down) / (2 * step)), abs=1e-5)


def test_batchnorm_mode_changes_the_update_and_never_the_statistics():
    net = seeded(pooled)
    with torch.no_grad():
        net[1].running_mean.uniform_(-1, 1)
    target = target_of(net)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    names = tuple(target.parameters)
    clips, labels = torch.stack([clip(1), clip(2)]), torch.tensor([3, 5])
    made = [
        observe(LocalClient(target.model, FederatedProtocol(sent=names, bn=mode)), clips, labels).gradients["0.weight"]
        for mode in ("eval", "train")
    ]
    assert float((made[0] - made[1]).norm()) > 1e-3 * float(made[0].norm())
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items() if "num_batches" not in k)


def test_labels_are_stable_and_distinct():
    names = [f"clip{i}" for i in range(8)]
    labels = assign_labels(names, 10)
    assert labels == assign_labels(names, 10)
    assert len(set(labels)) == 8
    assert all(0 <= x < 10 for x in labels)
    assert assign_labels(names[:1], 10) == labels[:1]
    assert len(assign_labels(names, 3)) == 8


def test_trainable_patterns_match_parameters_and_layers():
    target = target_of(seeded(flat))
    names = list(target.parameters)
    assert select_parameters(target.layers, names, ["*"]) == tuple(names)
    assert select_parameters(target.layers, names, ["5.*"]) == ("5.weight", "5.bias")
    assert select_parameters(target.layers, names, ["5"]) == ("5.weight", "5.bias")
    assert select_parameters(target.layers, names, ["*.bias"]) == ("0.bias", "2.bias", "5.bias")
    with pytest.raises(UsageError, match=r"matches none of the 6 parameters.*5\.weight"):
        select_parameters(target.layers, names, ["5.wieght"])
