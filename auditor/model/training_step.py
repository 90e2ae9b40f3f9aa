"""What one training step of a network costs, counted while its forward pass is observed."""

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef

from auditor.model.forward_pass import Observation, observe
from auditor.model.video import VideoModel
from auditor.records import Clips, TrainingStep


class _Kept:
    """Bytes of the distinct storages that autograd keeps for the backward pass, parameters and buffers left out."""

    def __init__(self, network: nn.Module) -> None:
        own = [value for value in (*network.parameters(), *network.buffers()) if value.layout is torch.strided]
        self._own = {value.untyped_storage()._cdata for value in own}
        # A weak reference keeps the address of a storage from being used again, and lets go of what it held.
        self._seen: dict[int, StorageWeakRef] = {}
        self.bytes = 0

    def __call__(self, value: Tensor) -> Tensor:
        if value.layout is not torch.strided:
            return value.detach()
        storage = value.untyped_storage()
        if storage._cdata not in self._own and storage._cdata not in self._seen:
            self._seen[storage._cdata] = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
            self.bytes += storage.nbytes()
        # An operation that keeps its own result would hold itself through the result's place in the graph: no collector
        # sees that, and the graph of ViViT-base, 4.7 GB, stayed until a backward pass that is never made.
        return value.detach()


def observed_step(model: VideoModel, clips: Clips) -> tuple[Observation, TrainingStep]:
    """Run a network once, watch it, and count what a training step of it computes and keeps.

    The observation's output is all that the network returns, and can be differentiated.
    """
    kept = _Kept(model.network)
    with saved_tensors_hooks(kept, _back):
        seen = observe(model, clips, model.outputs, own=model.constants)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    return seen, TrainingStep(operations=seen.operations, kept=kept.bytes, weights=weights, scores=seen.scores)


def _back(kept: Tensor) -> Tensor:
    return kept
