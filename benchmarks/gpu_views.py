"""What an attacker sees of one client with one clip, on a device."""

import torch

from auditor.options import ScanOptions
from auditor.pipeline.context import observe_probes, set_up, view_of
from auditor.pipeline.scan import load_target
from auditor.probe import shipped_probes
from auditor.records import Clips, FederatedProtocol, View


def view_on(model: str, layout: str, device: torch.device) -> tuple[View, Clips]:
    """Return the view of a client that sent one gradient of the first shipped clip, and that clip."""
    target = load_target(ScanOptions(model=model, layout=layout), device)
    context = set_up(target, FederatedProtocol(), device, seed=0)
    (observed,) = observe_probes(context, shipped_probes(target.input)[:1])
    return view_of(context, observed), observed.clips
