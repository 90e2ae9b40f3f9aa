"""Attacks that are given a view on the processor and run on another device, for tests that know of one device only."""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any

import torch

from auditor.attack import ATTACKS, Attack
from auditor.records import Reconstruction, View


def moved(view: View, device: torch.device) -> View:
    """Return a view of which everything lies on the device: a copy of the model, the client over it, the update."""
    target = replace(view.target, model=copy.deepcopy(view.target.model).to(device))
    client = type(view.client)(
        target.model, view.client.protocol, view.client.loss, view.client.classes, view.client.seed,
        {name: w.detach().to(device) for name, w in view.client._moved.items()},
    )  # fmt: skip
    update = replace(
        view.update,
        gradients={name: g.to(device) for name, g in view.update.gradients.items()},
        buffers={name: b.to(device) for name, b in view.update.buffers.items()},
    )
    return replace(view, target=target, client=client, update=update)


def run_attacks_on(device: torch.device) -> None:
    """Let `invert` of every attack move its view to the device first, and what it made back, for the whole process."""
    kinds = {kind for attack in ATTACKS for kind in type(attack).__mro__ if issubclass(kind, Attack)}
    for kind in kinds:
        if "invert" in vars(kind):
            kind.invert = _moving(vars(kind)["invert"], device)


def _moving(invert: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    @wraps(invert)
    def call(self: Attack, view: View, *args: Any, **kwargs: Any) -> Any:
        if view.update.device.type != "cpu":
            return invert(self, view, *args, **kwargs)
        made = invert(self, moved(view, device), *args, **kwargs)
        return replace(made, clips=made.clips.cpu()) if isinstance(made, Reconstruction) else made

    return call
