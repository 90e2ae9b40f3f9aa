"""What an exported net must compute, found without the importer: outputs by ONNX Runtime, gradients by the original.

Needs torch, numpy and onnx only, so that the comparison of converters applies the same checks to all of them.
"""

import copy
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
import torch
from torch import Tensor, nn

# Order of the gates in torch's weights, as ONNX wants them.
GATES = {nn.GRU: (1, 0, 2), nn.LSTM: (0, 3, 1, 2), nn.RNN: (0,), nn.GRUCell: (1, 0, 2)}
NEWEST_IR = 10


def loss_of(logits: Tensor) -> Tensor:
    """Return the cross-entropy against labels 0, 1, 2, ..."""
    return nn.functional.cross_entropy(logits, torch.arange(logits.shape[0]) % logits.shape[1])


def gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return the gradient of every parameter; zeros where nothing reads it."""
    names, values = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss_of(model(x)), values, allow_unused=True)
    return {n: torch.zeros_like(v) if g is None else g for n, v, g in zip(names, values, found, strict=True)}


def second_derivative(model: nn.Module, x: Tensor) -> Tensor:
    """Return the derivative by the clip of the squared norm of the gradient."""
    x = x.clone().requires_grad_()
    values = [v for v in model.parameters() if v.requires_grad]
    found = torch.autograd.grad(loss_of(model(x)), values, create_graph=True, allow_unused=True)
    (second,) = torch.autograd.grad(sum(g.square().sum() for g in found if g is not None), x)
    return second


def evaluating(path: str) -> onnx.ModelProto:
    """Return a file's model with dropout off and running statistics, fit for ONNX Runtime."""
    model = onnx.load(path)
    model.ir_version = min(model.ir_version, NEWEST_IR)
    made = {name: node.op_type for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            del node.output[1:]
            for attribute in [a for a in node.attribute if a.name == "training_mode"]:
                node.attribute.remove(attribute)
        if node.op_type == "Dropout":
            del node.input[1:]
        if node.op_type == "Mul" and "stochastic_depth" in node.name:
            node.op_type = "Identity"
            del node.input[1:]
        if node.op_type == "Conv" and len(node.input) == 3 and made.get(node.input[2]) == "Expand":
            del node.input[2:]  # "no bias", written in a way that the runtime refuses
    return model


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """Return the first output of ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs = [session.run(None, {session.get_inputs()[0].name: clip[None]})[0] for clip in x]
    return np.concatenate(outputs)


def runtime_outputs(path: str, x: Tensor) -> Tensor:
    """Return what ONNX Runtime computes for every clip by itself."""
    return torch.from_numpy(run(evaluating(path), x.numpy()))


def relative(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference relative to the largest value; infinite for other shapes or NaN."""
    if ours.shape != theirs.shape:
        return float("inf")
    error = float((ours.detach() - theirs.detach()).abs().max()) / max(float(theirs.detach().abs().max()), 1e-6)
    return error if error == error else float("inf")


def counterparts(net: nn.Module) -> Iterator[tuple[tuple[str, ...], "Linear"]]:
    """Yield linear rearrangements of parameters under which exporters write them, most direct first.

    Each is (names, function): `function` takes the tensors of those names, values or gradients alike.
    """
    parameters = dict(net.named_parameters())
    for name, value in parameters.items():
        yield (name,), Linear("plain")
        if value.dim() == 2:
            yield (name,), Linear("transposed")
        if name.endswith(("in_proj_weight", "in_proj_bias")) or "qkv" in name:
            for part in ((0, 1), (1, 2), (2, 3), (1, 3), (0, 2)):
                yield (name,), Linear("thirds", part)
                if value.dim() == 2:
                    yield (name,), Linear("thirds-transposed", part)
    for path, module in net.named_modules():
        if isinstance(module, (nn.GRU, nn.LSTM, nn.RNN)):
            yield from _recurrent(path, module)


def _recurrent(path: str, module: nn.RNNBase) -> Iterator[tuple[tuple[str, ...], "Linear"]]:
    order = GATES[type(module)]
    ways = ("", "_reverse") if module.bidirectional else ("",)
    for layer in range(module.num_layers):
        for kinds in (("weight_ih",), ("weight_hh",), ("bias_ih", "bias_hh")):
            for chosen in {ways, *((way,) for way in ways)}:
                names = tuple(f"{path}.{kind}_l{layer}{way}" for way in chosen for kind in kinds)
                yield names, Linear("gates", order=order, parts=len(kinds))
        for kind in ("bias_ih", "bias_hh"):
            for way in ways:
                yield (f"{path}.{kind}_l{layer}{way}",), Linear("gates", order=order, parts=1)


class Linear:
    """A rearrangement of one or several tensors into one."""

    def __init__(self, kind: str, part: tuple[int, int] = (0, 3), order: tuple[int, ...] = (), parts: int = 1) -> None:
        self.kind, self.part, self.order, self.parts = kind, part, order, parts

    def __call__(self, *tensors: Tensor) -> Tensor:
        first = tensors[0]
        if self.kind == "plain":
            return first
        if self.kind == "transposed":
            return first.t()
        if self.kind.startswith("thirds"):
            begin, end = self.part
            piece = torch.cat(first.chunk(3)[begin:end])
            return piece.t() if self.kind == "thirds-transposed" else piece
        ordered = [torch.cat([v.chunk(len(self.order))[i] for i in self.order]) for v in tensors]
        rows = [torch.cat(ordered[i : i + self.parts]) for i in range(0, len(ordered), self.parts)]
        return torch.stack(rows)


def matched(parameters: Mapping[str, Tensor], net: nn.Module) -> dict[str, tuple[tuple[str, ...], "Linear"]]:
    """Tell for every parameter of a file which parameters of the original hold its numbers; others are left out."""
    originals = {name: value.detach() for name, value in net.named_parameters()}
    known: dict[tuple[int, float], list[tuple[Tensor, tuple[str, ...], Linear]]] = {}
    for names, function in counterparts(net):
        value = function(*(originals[name] for name in names))
        known.setdefault(_key(value), []).append((value, names, function))
    found = {}
    for name, value in parameters.items():
        for other, names, function in known.get(_key(value), []):
            if torch.equal(other.reshape(-1), value.detach().reshape(-1)):
                found[name] = (names, function)
                break
    return found


def _key(value: Tensor) -> tuple[int, float]:
    flat = value.detach().reshape(-1)
    return flat.numel(), float(flat[0]) if flat.numel() else 0.0


def normalised(net: nn.Module) -> int:
    """Return how many batch normalisations a net has."""
    return sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in net.modules())


def with_batch_statistics(net: nn.Module) -> nn.Module:
    """Return a copy whose batch normalisations use the batch, everything else evaluating."""
    twin = copy.deepcopy(net)
    for module in twin.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    return twin


def slope(path: str, x: np.ndarray, name: str, direction: np.ndarray, weights: np.ndarray, step: float) -> float:
    """Return the central difference, by ONNX Runtime, of a weighted sum of logits along a direction of one tensor."""
    values = []
    for sign in (1, -1):
        model = evaluating(path)
        tensor = next(t for t in model.graph.initializer if t.name == name)
        moved = onnx.numpy_helper.to_array(tensor).astype(np.float64) + sign * step * direction
        tensor.CopyFrom(onnx.numpy_helper.from_array(moved.astype(np.float32), name))
        values.append(float((run(model, x).astype(np.float64) * weights).sum()))
    return (values[0] - values[1]) / (2 * step)
