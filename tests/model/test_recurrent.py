"""Recurrent layers written out give what PyTorch's own give, values and slopes."""

import pytest
import torch
from torch import nn

from auditor.model.recurrent import StepByStep

KINDS = {
    "GRU": lambda: nn.GRU(5, 4, batch_first=True),
    "GRU, two layers, both ways": lambda: nn.GRU(5, 4, num_layers=2, bidirectional=True),
    "LSTM, no bias": lambda: nn.LSTM(5, 4, num_layers=2, bias=False, batch_first=True),
    "LSTM, projected, both ways": lambda: nn.LSTM(5, 4, proj_size=3, bidirectional=True),
    "tanh": lambda: nn.RNN(5, 4, num_layers=2, batch_first=True),
    "ReLU": lambda: nn.RNN(5, 4, nonlinearity="relu", bidirectional=True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_pytorchs_own_layer(kind):
    torch.manual_seed(0)
    layer, x = KINDS[kind]().double(), torch.randn(3, 6, 5, dtype=torch.float64, requires_grad=True)

    def told():
        outputs, states = layer(x)
        everything = torch.cat([t.flatten() for t in (outputs, *(states if isinstance(states, tuple) else (states,)))])
        return everything, *torch.autograd.grad(everything.square().sum(), (x, *layer.parameters()))

    expected = told()
    with StepByStep():
        found = told()
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b)


def test_the_start_and_packed_sequences_are_read():
    torch.manual_seed(0)
    layer, x, start = nn.GRU(5, 4), torch.randn(6, 3, 5), torch.randn(1, 3, 4)
    packed = nn.utils.rnn.pack_padded_sequence(x, [6, 4, 2])
    expected = layer(x, start)[0], layer(packed)[1]
    with StepByStep():
        found = layer(x, start)[0], layer(packed)[1]
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b)
