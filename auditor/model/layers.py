"""The layers of a model in the order of its forward pass: every operation that owns parameters."""

import ast
import re
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from auditor.model.forward_pass import Reading
from auditor.model.onnx.graph import Node
from auditor.model.onnx.interpreter import OnnxModule
from auditor.model.onnx.parameters.trainable_constants import INVENTED
from auditor.records import Layer
from auditor.text import printable

LINEAR = ("addmm", "mm", "bmm", "baddbmm", "linear", "addmv", "mv", "dot", "addbmm")
TABLES = ("embedding", "index_select", "gather", "index", "cat", "stack", "copy_", "index_put", "where")
SHIFTS, SCALES = ("add", "add_", "sub", "sub_"), ("mul", "mul_")
RECURRENT = ("GRU", "LSTM", "RNN")
SCOPES = "pkg.torch.onnx.name_scopes"
LEAVES = re.compile(r"^(weight|bias|gamma|beta|scale|in_proj_\w+|(weight|bias)_(ih|hh)(_l\d+)?(_reverse)?)$")


@dataclass(slots=True, eq=False)
class _Group:
    """Parameters that one layer owns, and what was seen of it."""

    parameters: list[str]
    readings: list[Reading] = field(default_factory=list)


class _Owners:
    """Who a parameter belongs to: the module that holds it, or the node that reads it."""

    def __init__(self, network: nn.Module) -> None:
        self.modules = {} if isinstance(network, OnnxModule) else dict(network.named_modules())
        self.readers: Mapping[str, Node] = network.readers if isinstance(network, OnnxModule) else {}

    def kind(self, name: str) -> str:
        """Return the class of the module or the operator of the node."""
        if name in self.readers:
            return self.readers[name].operator
        owner = self.modules.get(name.rpartition(".")[0])
        return "" if owner is None else _recurrent_name(owner) or type(owner).__name__

    def together(self, name: str) -> Hashable | None:
        """Return what the parameters of one recurrent layer, or of one node, have in common."""
        if name in self.readers:
            node = self.readers[name]
            return id(node) if node.operator not in (*SHIFTS, "Add", "Sub", "Mul", "Sum", "Concat", "Gather") else None
        path, _, leaf = name.rpartition(".")
        if self.kind(name) in RECURRENT:
            return path, re.sub(r"^(weight|bias)_(ih|hh|hr)", "", leaf)
        return None

    def name(self, parameters: Sequence[str]) -> str:
        """Return a layer's name from its parameters' own names, else from the scope of the node that reads it."""
        chosen = [name for name in parameters if not INVENTED.match(name)]
        for name in chosen:
            path, _, leaf = name.rpartition(".")
            if path and LEAVES.match(leaf):
                return path
        if chosen:
            return chosen[0].removesuffix("_bias")
        scopes = [scope(self.readers[name]) for name in parameters if name in self.readers]
        return next((text for text in scopes if text), parameters[0])


def _recurrent_name(module: nn.Module) -> str:
    if isinstance(module, (nn.GRU, nn.GRUCell)):
        return "GRU"
    if isinstance(module, (nn.LSTM, nn.LSTMCell)):
        return "LSTM"
    return "RNN" if isinstance(module, (nn.RNNBase, nn.RNNCellBase)) else ""


def scope(node: Node) -> str:
    """Return the module path that an exporter recorded for a node; empty if it recorded none.

    >>> scope(Node("MatMul", (), (), name="/blocks.0/attn/MatMul_1"))
    'blocks.0.attn'
    """
    recorded = node.metadata.get(SCOPES, "")
    if recorded.startswith("[") and len(recorded) < 10_000:
        try:
            with warnings.catch_warnings():  # of escapes in a text that is not ours
                warnings.simplefilter("ignore")
                scopes = ast.literal_eval(recorded)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            scopes = []
        named = [item for item in scopes[:-1] if isinstance(item, str) and item]
        return named[-1] if named else ""
    if node.name.startswith("/"):
        return ".".join(node.name.strip("/").split("/")[:-1])
    return ""


def find_layers(network: nn.Module, parameters: Mapping[str, Tensor], readings: Sequence[Reading]) -> tuple[Layer, ...]:
    """Group every parameter into exactly one layer.

    Weight and bias are one layer, also where a file adds the bias by itself; the gates of a recurrent layer are one.
    Parameters that the forward pass never read come last, with kind `other`.
    """
    owners = _Owners(network)
    groups: list[_Group] = []
    placed: dict[str, _Group] = {}
    keys: dict[Hashable, _Group] = {}
    for reading in readings:
        fresh = [name for name in reading.parameters if name not in placed]
        fresh.sort(key=lambda name: -parameters[name].dim())  # the weight before its bias
        if not fresh:
            continue
        key = next((key for name in fresh if (key := owners.together(name)) is not None), None)
        group = keys.get(key) if key is not None else None
        if group is None and groups and _continues(groups[-1], reading, parameters, fresh, owners):
            group = groups[-1]
        if group is None:
            group = _Group([])
            groups.append(group)
        if key is not None:
            keys[key] = group
        group.parameters += fresh
        group.readings.append(reading)
        placed.update(dict.fromkeys(fresh, group))
    unread: dict[str, _Group] = {}
    for name in parameters:
        if name not in placed:
            path, _, leaf = name.rpartition(".")
            unread.setdefault(path if LEAVES.match(leaf) else name, _Group([])).parameters.append(name)
    values: dict[Hashable, int] = {}
    layers = [_layer(i, group, owners, parameters, values) for i, group in enumerate([*groups, *unread.values()])]
    return _with_distinct_names(layers)


def _plain(reading: Reading) -> str:
    return reading.operator.removeprefix("aten::")


def _spread(value: Tensor) -> int:
    """Return along how many axes a tensor varies."""
    return sum(extent > 1 for extent in value.shape)


def _continues(
    group: _Group, reading: Reading, parameters: Mapping[str, Tensor], fresh: Sequence[str], owners: _Owners
) -> bool:
    """Tell whether a reading adds the bias to what the group before it computed."""
    last = group.readings[-1]
    if _plain(reading) not in SHIFTS or any(_spread(parameters[name]) > 1 for name in fresh):
        return False
    if _plain(last) in SHIFTS or reading.input.untyped_storage()._cdata != last.output.untyped_storage()._cdata:
        return False
    before, now = (_path(names) for names in (group.parameters, fresh))
    return not before or not now or before == now


def _path(names: Sequence[str]) -> str:
    return next((name.rpartition(".")[0] for name in names if not INVENTED.match(name) and "." in name), "")


def _kind(group: _Group, owners: _Owners, parameters: Mapping[str, Tensor]) -> str:
    if not group.readings:
        return "other"
    owner, first = owners.kind(group.parameters[0]), group.readings[0]
    operator = _plain(first)
    if owner in RECURRENT or "rnn" in operator or "lstm" in operator or "gru" in operator:
        return "recurrent"
    if "convolution" in operator:
        return f"conv{first.weights[0][0].dim() - 2}d"
    if "norm" in operator or owner.lower().endswith(("norm", "normalization")) or "Norm" in owner:
        return "norm"
    if operator in LINEAR:
        return "linear"
    if operator in TABLES:
        return "embedding"
    if operator in SHIFTS:
        widest = max(_spread(value) for value, _ in first.weights)
        return "position-embedding" if widest > 1 and not first.on_scores else "other"
    if operator in SCALES:
        return "norm" if len(group.readings) > 1 else "other"
    return "other"


def _rows(reading: Reading) -> int:
    shape = reading.input.shape
    contracted = shape[-2] if reading.weight_first and len(shape) > 1 else shape[-1]
    return reading.input.numel() // max(contracted, 1)


def _layer(
    index: int, group: _Group, owners: _Owners, parameters: Mapping[str, Tensor], values: dict[Hashable, int]
) -> Layer:
    kind = _kind(group, owners, parameters)
    seen = group.readings
    return Layer(
        index=index,
        name=printable(owners.name(group.parameters)),
        kind=kind,
        parameters=tuple(group.parameters),
        elements=sum(parameters[name].numel() for name in group.parameters),
        rows=_rows(seen[0]) if kind == "linear" else None,
        input_shape=tuple(seen[0].input.shape) if seen else (),
        output_shape=tuple(seen[-1].output.shape) if seen else (),
        convolution=seen[0].convolution if seen else None,
        reads=values.setdefault(_value(seen[0]), len(values)) if seen else None,
        behind_weights=bool(seen) and all(reading.behind_weights for reading in seen),
    )


def _value(reading: Reading) -> Hashable:
    """Return what two readings of the very same value have in common."""
    value = reading.input
    place = value.untyped_storage()._cdata, int(value.storage_offset()), reading.version
    return (*place, tuple(value.shape), tuple(value.stride()))


def _with_distinct_names(layers: list[Layer]) -> tuple[Layer, ...]:
    times: dict[str, int] = {}
    distinct = []
    for layer in layers:
        times[layer.name] = times.get(layer.name, 0) + 1
        again = times[layer.name]
        distinct.append(layer if again == 1 else replace(layer, name=f"{layer.name} ({again})"))
    return tuple(distinct)
