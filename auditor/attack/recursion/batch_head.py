"""The gradient at the logits of every clip of a batch, from the gradient of the head, by the labels."""

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.attack.recursion.call_graph import Call, CallGraph
from auditor.records import View
from auditor.solvers.least_norm import least_norm
from auditor.solvers.levenberg_marquardt import minimise

# What rounding leaves of the equations, relative to the gradient: measured 1e-7 to 1e-6, and above 1e-3 where it ends
# in a local minimum.
_EXPLAINED = 1e-5
# A head of B clips has rank B: singular values below this share of the first are rounding.
_RANK = 1e-6
_STEPS, _STARTS = 200, 8


def gradients_of_clips(view: View, graph: CallGraph, call: Call) -> Tensor | None:
    """Return dL/dlogits (clip, class) of a batch whose labels are known, by cross-entropy; None where it is not told.

    dW = sum_b g_b f_b^T has rank B, so g = U M and f = M^-1 U^T dW with an unknown mixing M (B x B). The public head
    closes it: B g_b = softmax(W f_b + b) - e_y. Few unknowns against one equation for each class and clip; Levenberg
    and Marquardt's method from predictions that know nothing, and some that know the label. Derived for this project.
    """
    labels, scale = view.knowledge.labels, view.scale
    clips = graph.shapes[0][0]
    if view.knowledge.loss != "cross-entropy" or scale is None or labels is None or len(labels) != clips:
        return None
    gradient = graph.operation(call).oriented(view.update.gradients[call.weight or ""].double()) * (clips / scale)
    u, s, _ = torch.linalg.svd(gradient, full_matrices=False)
    if len(s) < clips or float(s[clips - 1]) < _RANK * float(s[0]):
        return None
    u = u[:, :clips]
    seen = u.T @ gradient
    wanted = torch.nn.functional.one_hot(torch.tensor(labels), gradient.shape[0]).double().T

    def features(mixing: Tensor) -> Float[Tensor, "clip feature"]:
        return least_norm(mixing, seen)

    def missed(mixing: Tensor) -> Tensor:
        read = features(mixing).reshape(graph.shapes[call.inputs[0]])
        with torch.no_grad():
            p = call({call.inputs[0]: read})[0].reshape(clips, -1).softmax(1).T
        return (p - wanted - u @ mixing).flatten()

    generator = torch.Generator().manual_seed(0)
    for start in range(_STARTS):
        towards = torch.rand(clips, generator=generator, dtype=torch.float64) if start else torch.zeros(clips)
        p = (1.0 - towards) / gradient.shape[0] + towards * wanted
        mixing = u.T @ (p - wanted)
        mixing = (
            mixing + 1e-3 * torch.randn(clips, clips, generator=generator, dtype=torch.float64) * mixing.abs().max()
        )
        mixing, left = minimise(missed, mixing, _STEPS, 1e-9, lambda: True)
        if left <= _EXPLAINED * float((u @ mixing).norm()):
            return (u @ mixing).T.reshape(graph.shapes[call.outputs[0]]) * (scale / clips)
    return None
