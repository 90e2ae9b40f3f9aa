"""Changes of networks: outputs and gradients are those of a net written by hand, or it is said why there is none."""

import copy
import math

import pytest
import torch
from surgery_nets import Functional, Tokens, convolutional
from torch import nn

from auditor.errors import UsageError
from auditor.model.surgery import CHANGES, change_network, check_change


def clip(seed: int = 3) -> torch.Tensor:
    return torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def built(make, **arguments):
    torch.manual_seed(1)
    net = make(**arguments)
    for module in net.modules():  # statistics and scales that are not those of a fresh net
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return net.eval()


def gradients(net: nn.Module) -> tuple[torch.Tensor, list[torch.Tensor]]:
    out = net(clip())
    loss = nn.functional.cross_entropy(out, torch.tensor([0, 3]))
    return out, list(torch.autograd.grad(loss, [p for p in net.parameters() if p.requires_grad]))


def agree(changed: nn.Module, by_hand: nn.Module) -> None:
    """The net by hand takes every weight of the changed one in order, and then does the same."""
    own, theirs = list(by_hand.parameters()), list(changed.parameters())
    assert [p.shape for p in own] == [p.shape for p in theirs]
    with torch.no_grad():
        for a, b in zip(own, theirs, strict=True):
            a.copy_(b)
        for a, b in zip(by_hand.buffers(), changed.buffers(), strict=True):
            a.copy_(b)
    (out, slopes), (wanted, hand) = gradients(changed), gradients(by_hand)
    assert torch.equal(out, wanted)
    assert all(torch.equal(a, b) for a, b in zip(slopes, hand, strict=True))


CONVOLUTIONAL = [
    ("pooling", "flatten", {}, {"pool": "flatten"}),
    ("pooling", "average", {"pool": "flatten"}, {}),
    ("stride", "1", {}, {"stride": 1}),
    ("stride", "1", {"pool": "flatten"}, {"pool": "flatten", "stride": 1}),
    ("kernel", "5", {}, {"kernel": 5}),
    ("activation", "gelu", {}, {"act": nn.GELU}),
    ("activation", "tanh", {"act": nn.SiLU}, {"act": nn.Tanh}),
    ("norm", "group", {}, {"norm": "group"}),
    ("norm", "none", {}, {"norm": "none"}),
    ("norm", "batch", {"norm": "group"}, {"norm": "batch"}),
]


@pytest.mark.parametrize(("name", "value", "before", "after"), CONVOLUTIONAL)
def test_a_changed_net_is_the_net_written_by_hand(name, value, before, after):
    changed = built(convolutional, **before)
    change_network(changed, name, value, clip()[:1], seed=0)
    agree(changed.eval(), built(convolutional, **after))


@pytest.mark.parametrize(
    ("name", "value", "after"), [("activation", "gelu", {"act": "gelu"}), ("positions", "none", {"positions": "none"})]
)
def test_a_changed_transformer_is_the_transformer_written_by_hand(name, value, after):
    changed = built(Tokens)
    change_network(changed, name, value, clip()[:1], seed=0)
    agree(changed.eval(), built(Tokens, **after))


def test_fixed_positions_are_sines_that_nobody_trains():
    changed = built(Tokens)
    change_network(changed, "positions", "fixed", clip()[:1], seed=0)
    agree(changed.eval(), built(Tokens, positions="fixed"))
    assert "pos_embed" not in dict(changed.named_parameters())
    for p in range(8):
        for i in range(4):
            angle = p / 10_000 ** (2 * i / 8)
            assert float(changed.pos_embed[0, p, 2 * i]) == pytest.approx(math.sin(angle), abs=1e-6)
            assert float(changed.pos_embed[0, p, 2 * i + 1]) == pytest.approx(math.cos(angle), abs=1e-6)
    change_network(changed, "positions", "learned", clip()[:1], seed=0)
    assert isinstance(changed.pos_embed, nn.Parameter)
    assert changed.pos_embed.requires_grad


def test_weights_stay_where_their_shapes_do_and_the_rest_is_drawn_by_the_seed():
    before = built(convolutional)
    one, same, other = (copy.deepcopy(before) for _ in range(3))
    for net, seed in ((one, 4), (same, 4), (other, 5)):
        told = change_network(net, "pooling", "flatten", clip()[:1], seed).told
    assert "drawn anew" in told
    kept = [n for n, p in before.named_parameters() if torch.equal(dict(one.named_parameters())[n], p)]
    assert {n for n, _ in before.named_parameters()} - set(kept) == {"8.weight", "8.bias"}
    assert torch.equal(one[8].weight, same[8].weight)
    assert not torch.equal(one[8].weight, other[8].weight)


def test_scale_and_shift_of_a_norm_are_kept():
    net = built(convolutional)
    weight = net[1].weight.detach().clone()
    change_network(net, "norm", "group", clip()[:1], seed=0)
    assert torch.equal(net[1].weight, weight)


def test_dropout_head_and_frozen_parameters():
    net = built(convolutional)
    change_network(net, "dropout", "0.25", clip()[:1], seed=0)
    assert net[7].p == 0.25
    head = net[8]
    change_network(net, "head", "mlp", clip()[:1], seed=0)
    assert isinstance(net[8], nn.Sequential)
    assert net[8][2] is head
    by_hand = nn.Sequential(
        *built(convolutional)[:8], nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 5))
    ).eval()
    agree(net.eval(), by_hand)
    assert change_network(net, "frozen", "0.*", clip()[:1], seed=0).frozen == ("0.weight", "0.bias")


REFUSED = [
    (lambda: convolutional(), "pooling", "average", "it averages already"),
    (lambda: convolutional(pool="flatten"), "pooling", "flatten", "it flattens already"),
    (Functional, "pooling", "flatten", "averages by no module"),
    (Functional, "activation", "gelu", "forward calls relu by itself"),
    (Functional, "norm", "group", "no BatchNorm or GroupNorm"),
    (Functional, "dropout", "0.5", "no dropout module"),
    (Functional, "positions", "fixed", "named as positions"),
    (Functional, "stride", "1", "has that stride already"),
    (Functional, "kernel", "2", "an even kernel"),
    (Functional, "frozen", "nothing*", "no parameter has such a name"),
    (lambda: convolutional(), "norm", "batch", "all of its normalisation is of that kind"),
    (Tokens, "stride", "1", "no longer runs"),
    (Tokens, "positions", "learned", "positions are learned already"),
    (Tokens, "pooling", "flatten", "averages by no module"),
]


@pytest.mark.parametrize(("make", "name", "value", "says"), REFUSED, ids=[f"{n}={v}" for _, n, v, _ in REFUSED])
def test_what_does_not_apply_says_why(make, name, value, says):
    net = make().eval()
    with pytest.raises(UsageError, match=says):
        change_network(net, name, value, clip()[:1], seed=0)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("width", "64", "is no exact surgery; every layer would be another"),
        ("poling", "flatten", "did you mean pooling"),
        ("pooling", "max", "give flatten, average"),
        ("stride", "0", "give a number"),
        ("dropout", "1.5", "give a share"),
    ],
)
def test_what_is_no_change_is_refused(name, value, says):
    with pytest.raises(UsageError, match=says):
        check_change(name, value)


def test_every_change_has_words_for_its_values():
    assert all(kind.told for kind in CHANGES.values())
