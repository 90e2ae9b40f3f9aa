"""Recurrent networks as explicit loops over time, because fused kernels lack second derivatives."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from auditor.model.onnx.graph import Node
from auditor.model.onnx.operators.registry import Function, UnsupportedError, builtin

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
DEFAULT = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "softsign": F.softsign,
    "softplus": F.softplus,
}


@builtin("RNN", "GRU", "LSTM")
def _recurrent(node: Node) -> Function:
    kind, attributes = node.operator, node.attributes
    gates = GATES[kind]
    names = attributes.get("activations") or DEFAULT[kind] * 2
    unknown = [name for name in names if name.lower() not in ACTIVATIONS]
    if unknown or attributes.get("activation_alpha") or attributes.get("activation_beta"):
        raise UnsupportedError(f"{kind} with activation {', '.join(unknown) or 'parameters'}")
    functions = [ACTIVATIONS[name.lower()] for name in names]
    clip, batch_first = attributes.get("clip"), bool(attributes.get("layout", 0))
    backwards = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[
        attributes.get("direction", "forward")
    ]
    after = bool(attributes.get("linear_before_reset", 0))
    coupled = bool(attributes.get("input_forget", 0))

    def limited(x: Tensor) -> Tensor:
        return x if clip is None else x.clamp(-clip, clip)

    def run(
        x: Tensor,
        weight: Tensor,
        recurrence: Tensor,
        bias: Tensor | None = None,
        lengths: Tensor | None = None,
        hidden: Tensor | None = None,
        cell: Tensor | None = None,
        peephole: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        if batch_first:
            x = x.transpose(0, 1)
            hidden, cell = (v if v is None else v.transpose(0, 1) for v in (hidden, cell))
        steps, batch, _ = x.shape
        width = recurrence.shape[2]
        mask = None
        if lengths is not None:
            mask = torch.arange(steps, device=x.device)[:, None, None] < lengths.to(x.device)[None, :, None]
        outputs, last_hidden, last_cell = [], [], []
        for direction, reverse in enumerate(backwards):
            first, second, third = (functions[len(DEFAULT[kind]) * direction :] + [torch.tanh] * 2)[:3]
            r = recurrence[direction].t()
            zero = x.new_zeros(gates * width)
            wb, rb = torch.split(bias[direction], gates * width) if bias is not None else (zero, zero)
            projected = x @ weight[direction].t() + (wb if kind == "GRU" else wb + rb)
            h = hidden[direction].expand(batch, width) if hidden is not None else x.new_zeros(batch, width)
            c = cell[direction].expand(batch, width) if cell is not None else x.new_zeros(batch, width)
            pi, po, pf = torch.split(peephole[direction], width) if peephole is not None else (None, None, None)
            states: list[Tensor] = [h] * steps
            for t in reversed(range(steps)) if reverse else range(steps):
                old_h, old_c = h, c
                if kind == "RNN":
                    h = first(limited(projected[t] + h @ r))
                elif kind == "LSTM":
                    i, o, f, g = torch.split(projected[t] + h @ r, width, -1)
                    if pi is not None and pf is not None:
                        i, f = i + pi * c, f + pf * c
                    admitted = first(limited(i))
                    kept = 1 - admitted if coupled else first(limited(f))
                    c = kept * c + admitted * second(limited(g))
                    o = o if po is None else o + po * c
                    h = first(limited(o)) * third(c)
                else:
                    xz, xr, xn = torch.split(projected[t], width, -1)
                    if after:
                        hz, hr, hn = torch.split(h @ r + rb, width, -1)
                        z, q = first(limited(xz + hz)), first(limited(xr + hr))
                        n = second(limited(xn + q * hn))
                    else:
                        hz, hr = torch.split(h @ r[:, : 2 * width] + rb[: 2 * width], width, -1)
                        z, q = first(limited(xz + hz)), first(limited(xr + hr))
                        n = second(limited(xn + (q * h) @ r[:, 2 * width :] + rb[2 * width :]))
                    h = (1 - z) * n + z * h
                states[t] = h
                if mask is not None:
                    states[t] = torch.where(mask[t], h, torch.zeros_like(h))
                    h, c = torch.where(mask[t], h, old_h), torch.where(mask[t], c, old_c)
            outputs.append(torch.stack(states))
            last_hidden.append(h)
            last_cell.append(c)
        y, hs, cs = torch.stack(outputs, 1), torch.stack(last_hidden), torch.stack(last_cell)
        if batch_first:
            y, hs, cs = y.permute(2, 0, 1, 3), hs.transpose(0, 1), cs.transpose(0, 1)
        return (y, hs, cs) if kind == "LSTM" else (y, hs)

    return run
