"""An ONNX file that reads more than one clip: states and masks are set where that is certain, clips of one squeezed."""

import re
from collections.abc import Sequence

from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper

from auditor.errors import NotAuditable
from auditor.text import printable

# What exporters and people call the state before the first frame, and what hides nothing.
STATES = re.compile(
    r"(^|[._/])((init(ial)?|prev(ious)?|past|last)[._]?)?(h|c|hx|cx|hidden|cell|state|memory)s?"
    r"([._]?(in|state|input|init(ial)?|prev(ious)?|past|last))?[._]?\d*$",
    re.IGNORECASE,
)
MASKS = re.compile(
    r"(^|[._/])((\w+[._])?masks?([._]?(in|input))?([._]?\d+)?|(is[._])?(valid|padding|padded))$", re.IGNORECASE
)
PADDING = re.compile(r"pad", re.IGNORECASE)  # true where there is nothing to see
WEIGHTS = re.compile(r"(^|[._])(weight|bias|gamma|beta|running_(mean|var))$")
NUMBERS = (
    TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL,
)  # fmt: skip
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
FEWEST_AXES_OF_CLIP = 4
AXES_OF_CLIP = 5
SEE = "see Several inputs in docs/pytorch.md"
WRAPPER = (
    "export a module that makes them from one clip x, e.g. def forward(self, x): return self.net([x[:, :, ::4], x]); "
    + SEE
)
SHOWN = 5
LONGEST_NAME = 200  # a crafted one could keep a search busy


HIDES_NOTHING = "a mask that hides nothing"


def one_clip(model: ModelProto, *, other_masks: bool = False) -> list[str]:
    """Leave the clip as the only input of a file, and return what was done to the others.

    A name that says state is set to 0, one that says mask to 1 (0 where it says padding; `other_masks` takes the other
    number), if the file gives the shape or leaves open only what the clip leaves open too. An axis of one clip before
    the channels is taken away.

    Raises
    ------
    NotAuditable
        More than one input is left, or several clips enter at once.
    """
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) < 2:
        return _squeezed(graph, inputs)
    clips = [value for value in inputs if len(value.name) > LONGEST_NAME or not _is_beside(value.name)]
    others = [value for value in inputs if value not in clips]
    if len(clips) != 1 or not all(_can_be_set(value, clips[0]) for value in others):
        shown = ", ".join(f"{printable(value.name, 40)} {_shape(value)}" for value in inputs[:SHOWN])
        raise NotAuditable(f"the graph reads {len(inputs)} inputs: {shown}", _remedy(inputs))
    notes = [_set(graph, value, clips[0], place, other_masks) for place, value in enumerate(others)]
    return [*notes, *_squeezed(graph, clips)]


def _remedy(inputs: Sequence[ValueInfoProto]) -> str:
    """Say how one clip would do: inputs of fewer axes than the first are given fixed values."""
    first, *others = inputs
    if any(len(value.name) <= LONGEST_NAME and WEIGHTS.search(value.name) for value in others):
        return "its weights are inputs, so that the file holds none of them: export it with export_params=True"
    clip_axes, axes = len(_dims(first)), [len(_dims(value)) for value in others]
    if not axes or max(axes) >= min(clip_axes, FEWEST_AXES_OF_CLIP):
        return WRAPPER
    values = ", ".join(_example(value) for value in others[:SHOWN])
    return (
        "export a module that gives the others the values that they have at clients, e.g. def forward(self, x): "
        f"return self.net(x, {values}); {SEE}"
    )


def _example(value: ValueInfoProto) -> str:
    """Return an input in fixed numbers, as Python spells it."""
    extents = [str(extent) if isinstance(extent, int) else "len(x)" for extent in _dims(value)]
    kind = "" if value.type.tensor_type.elem_type in FLOATS else ", dtype=torch.long"
    return f"torch.ones({', '.join(extents) or '()'}{kind})"


def _is_beside(name: str) -> bool:
    return bool(STATES.search(name) or MASKS.search(name))


def _dims(value: ValueInfoProto) -> list[int | str]:
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else dim.dim_param for dim in dims]


def _shape(value: ValueInfoProto) -> str:
    return "(" + ", ".join(printable(str(extent or "?"), 20) for extent in _dims(value)) + ")"


def _can_be_set(value: ValueInfoProto, clip: ValueInfoProto) -> bool:
    known = value.type.tensor_type.HasField("shape") and value.type.tensor_type.elem_type in NUMBERS
    own = _dims(clip)
    return known and all(isinstance(extent, int) or (extent and extent in own) for extent in _dims(value))


def _set(graph: GraphProto, value: ValueInfoProto, clip: ValueInfoProto, place: int, other_masks: bool) -> str:
    """Compute an input from the clip's shape alone; it has no numbers of its own that could count as trained."""
    own = _dims(clip)
    kind, name = value.type.tensor_type.elem_type, value.name
    mask = bool(MASKS.search(name))
    number = int(bool(PADDING.search(name)) is other_masks) if mask else 0
    prefix = f"given_{place}_of_{name}"
    parts, nodes = [], []
    for i, extent in enumerate(_dims(value)):
        part = f"{prefix}_{i}"
        if isinstance(extent, int):
            nodes.append(helper.make_node("Constant", [], [part], value=_tensor(TensorProto.INT64, [extent])))
        else:
            nodes += [
                helper.make_node(
                    "Constant", [], [f"{part}_first"], value=_tensor(TensorProto.INT64, [own.index(extent)])
                ),
                helper.make_node("Shape", [clip.name], [f"{part}_all"]),
                helper.make_node("Gather", [f"{part}_all", f"{part}_first"], [part], axis=0),
            ]
        parts.append(part)
    nodes += [
        helper.make_node("Concat", parts, [f"{prefix}_shape"], axis=0),
        helper.make_node("ConstantOfShape", [f"{prefix}_shape"], [name], value=_tensor(kind, [number])),
    ]
    _put_first(graph, nodes)
    graph.input.remove(value)
    what = HIDES_NOTHING if mask else "a state before the first frame"
    return f"The input '{printable(name, 60)}' is set to {number}, as {what}."


def _tensor(kind: int, values: Sequence[int]) -> TensorProto:
    return helper.make_tensor("value", kind, [len(values)], values)


def _put_first(graph: GraphProto, nodes: Sequence[object]) -> None:
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])


def _squeezed(graph: GraphProto, inputs: Sequence[ValueInfoProto]) -> list[str]:
    """Take axes of one clip, crop or person out of an input with more axes than a clip has.

    An axis that the file leaves open counts as one where it stands for clips. The batch stays, and axes in front go
    first.
    """
    if not inputs or len(dims := _dims(inputs[0])) <= AXES_OF_CLIP:
        return []
    value = inputs[0]
    excess = len(dims) - AXES_OF_CLIP
    single = [axis for axis, extent in enumerate(dims) if axis and extent == 1]
    if len(single) < excess and not isinstance(dims[1], int):
        single.insert(0, 1)
    taken = single[:excess]
    if len(taken) < excess:
        raise NotAuditable(
            f"the graph reads {dims[1] if isinstance(dims[1], int) else 'several'} clips or crops at once: input "
            f"{_shape(value)}",
            "export it for one clip, or a module that repeats one, def forward(self, x): return self.net(x[:, "
            "None].expand(-1, CLIPS, -1, -1, -1, -1))",
        )
    if not all(isinstance(extent, int) for axis, extent in enumerate(dims) if axis and axis not in taken):
        raise NotAuditable(
            f"the input {_shape(value)} leaves more than its batch open", "export it with a fixed size of clips"
        )
    name = value.name
    inner, shape = f"{name} (with its axis of clips)", f"{name} (shape)"
    for node in graph.node:
        for i, read in enumerate(node.input):
            if read == name:
                node.input[i] = inner
    fixed = [0, *(1 if axis in taken else int(extent) for axis, extent in enumerate(dims) if axis)]
    nodes = [
        helper.make_node("Constant", [], [shape], value=_tensor(TensorProto.INT64, fixed)),
        helper.make_node("Reshape", [name, shape], [inner]),
    ]
    _put_first(graph, nodes)
    for axis in reversed(taken):
        del value.type.tensor_type.shape.dim[axis]
    if taken == [1]:
        return ["The file reads one clip or crop in an axis of its own, which is taken away: clips enter without it."]
    places = ", ".join(str(axis) for axis in taken)
    return [f"Axes {places} of the file's input {_shape(value)} have one entry each and are taken away."]
