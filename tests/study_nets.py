"""Tiny networks and a training program for tests of studies."""

import torch
from torch import nn


def flat() -> nn.Module:
    """A Linear on pixels: its input is read off the update exactly."""
    return nn.Sequential(nn.Flatten(), nn.Linear(4 * 3 * 16 * 16, 7))


def conv() -> nn.Module:
    return nn.Sequential(nn.Conv3d(3, 4, 3, 2, 1), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 2 * 8 * 8, 7))


def train(forward, parameters, inputs, labels, seed) -> None:
    optimiser = torch.optim.Adam(list(parameters.values()), lr=1e-3)
    for _ in range(40):
        loss = nn.functional.cross_entropy(forward(inputs), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def broken(forward, parameters, inputs, labels, seed) -> None:
    raise RuntimeError("no such luck")
