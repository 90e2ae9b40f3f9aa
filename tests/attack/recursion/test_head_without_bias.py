"""What a head's weight alone gives away: the gradient at its output, which no bias tells."""

from dataclasses import replace

import pytest
import torch
from bench_nets import clip, seeded, view_of
from residual_nets import ResidualNet

from auditor.attack.recursion.call_graph import trace_client
from auditor.attack.recursion.graph_descent import descend_graph
from auditor.attack.recursion.head_gradient import gradient_at_head
from auditor.attack.recursion.head_without_bias import error_without_bias
from auditor.attack.recursion.layer_inputs import NO_HEAD
from auditor.federated import observe
from auditor.records import Clock


def head(classes: int, features: int, size: float, rectified: bool, seed: int):
    """A head with a bias, its input, and the true error at its output for a label."""
    g = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, features, generator=g, dtype=torch.float64) / features**0.5
    bias = 0.3 * torch.randn(classes, generator=g, dtype=torch.float64)
    x = torch.randn(features, generator=g, dtype=torch.float64)
    x = size * (x.abs() if rectified else x)
    label = int(torch.randint(classes, (1,), generator=g))

    def probabilities(z):
        return (weight @ z + bias).softmax(0)

    return x, probabilities, label


# Of the label that the net already names too: there |p - e_y| crosses the size of the error twice.
@pytest.mark.parametrize("likely", [True, False])
@pytest.mark.parametrize("rectified", [True, False])
@pytest.mark.parametrize(("classes", "size"), [(3, 1.0), (10, 0.1), (10, 4.0), (101, 2.0)])
def test_the_error_is_found_whatever_its_scale_and_sign(classes, size, rectified, likely):
    x, probabilities, label = head(classes, 64, size, rectified, seed=classes)
    p = probabilities(x)
    label = int(p.argmax()) if likely else label
    error = p.clone()
    error[label] -= 1.0
    found = error_without_bias(torch.outer(error, x).float().double(), probabilities)
    assert found is not None
    assert float((found - error).norm() / error.norm()) < 1e-4


def test_two_rows_say_nothing():
    x, probabilities, _ = head(10, 64, 1.0, True, seed=0)
    error = probabilities(x)
    other = torch.outer(error.flip(0), x.flip(0))
    assert error_without_bias(torch.outer(error, x) + other, probabilities) is None


def test_an_error_of_another_loss_is_refused():
    """Were any scale taken that fits the norm alone, a wrong gradient would be handed down."""
    x, probabilities, label = head(10, 64, 1.0, True, seed=1)
    error = 2.0 * (probabilities(x) - torch.nn.functional.one_hot(torch.tensor(label), 10))
    error = error * torch.linspace(0.5, 1.5, 10)
    assert error_without_bias(torch.outer(error, x), probabilities) is None


def without_weight(*gone):
    """A view of a residual net whose head's weight, at least, was not sent."""
    net, truth = seeded(ResidualNet), clip(1)
    view = view_of(net, truth[None], [3])
    sent = tuple(n for n in view.update.gradients if n not in gone)
    client = view.client.under(replace(view.client.protocol, sent=sent))
    update = observe(client, truth[None], torch.tensor([3]))
    return net, truth, replace(view, client=client, update=update)


def test_the_bias_of_a_head_whose_weight_was_not_sent_is_where_the_recursion_begins():
    net, truth, view = without_weight("head.weight")
    graph = trace_client(view)
    place, told = gradient_at_head(view, graph)
    logits = net(truth[None].transpose(1, 2)).detach().requires_grad_(True)
    (expected,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, torch.tensor([3])), logits)
    assert graph.calls[place].weight == "head.weight"
    assert torch.allclose(told.float(), expected, atol=1e-6)


def test_without_the_head_the_recursion_comes_as_far_down_as_with_it_once_its_bias_is_known():
    _, _, view = without_weight("head.weight")
    _, _, whole = without_weight()
    lowest = [descend_graph(one, Clock(60.0)).depth[-1].weights for one in (view, whole)]
    assert lowest[0] == lowest[1]
    _, _, dark = without_weight("head.weight", "head.bias")
    assert descend_graph(dark, Clock(60.0)) == NO_HEAD
