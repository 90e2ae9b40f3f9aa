"""Reading an ONNX file that nobody vouches for: sizes, nesting and external data are checked before they are used."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from auditor.errors import NotAuditable
from auditor.model.onnx.graph import DEEPEST_NESTING, NARROW_OR_WIDE
from auditor.model.sandbox import protobuf_count, untrusted_paths
from auditor.model.sandbox.untrusted_paths import AGAIN
from auditor.text import printable

MOST_TENSORS = 200_000
# A sparse tensor of a hundred bytes may stand for any number of zeros: 64 MiB of them are believed.
MOST_SPARSE = 2**24
# Every graph inside a node sees the names around it, and looking them up takes time for each.
MOST_NAMES_SEEN = 50_000_000
DAMAGED = f"copy it again or {AGAIN}"
NO_ONNX = "give an ONNX file or a PyTorch factory (path/file.py:factory)"
# First bytes of containers that are no ONNX, and what they are.
ZIP, PICKLE = b"PK\x03\x04", b"\x80"
BYTES: Mapping[int, int] = {
    TensorProto.FLOAT: 4, TensorProto.DOUBLE: 8, TensorProto.FLOAT16: 2, TensorProto.BFLOAT16: 2,
    TensorProto.UINT8: 1, TensorProto.INT8: 1, TensorProto.UINT16: 2, TensorProto.INT16: 2,
    TensorProto.UINT32: 4, TensorProto.INT32: 4, TensorProto.UINT64: 8, TensorProto.INT64: 8, TensorProto.BOOL: 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class OnnxFile:
    """A model file in memory, complete with its external data.

    `precisions` names the floating types other than float32 that its tensors had.
    """

    model: ModelProto
    sha256: str
    precisions: tuple[str, ...]


@dataclass(slots=True)
class _Contents:
    """What walking a model found."""

    tensors: list[TensorProto]
    sparse: int = 0
    names: int = 0
    graphs: int = 0


def read_onnx(path: Path) -> OnnxFile:
    """Read and check an ONNX file.

    Raises
    ------
    UsageError
        It cannot be opened.
    NotAuditable
        It is no ONNX file, damaged, too large, or points at data outside its folder.
    """
    name = printable(path.name)
    content = untrusted_paths.read_regular(path)
    if not content:
        raise NotAuditable(f"{name} is empty", AGAIN)
    model = _parse(content, name)
    del model.training_info[:]  # nothing here reads it, so nothing may go wrong in it
    digest = hashlib.sha256(content)
    del content
    found = _walked(model, name)
    outside = [tensor for tensor in found.tensors if tensor.data_location == TensorProto.EXTERNAL]
    with ThreadPoolExecutor(1) as hashing:  # beside the copying; one worker keeps the order
        files = {}
        for location in sorted({_entry(tensor, "location") for tensor in outside}):
            files[location] = untrusted_paths.read_beside(path.parent, location)
            hashing.submit(digest.update, files[location])
            if sum(map(len, files.values())) > untrusted_paths.LARGEST_FILE:
                raise NotAuditable(
                    f"{name} has more than {untrusted_paths.LARGEST_FILE / 2**30:.0f} GiB of external data", AGAIN
                )
        room = untrusted_paths.LARGEST_FILE
        for tensor in outside:
            room -= _fill(tensor, files[_entry(tensor, "location")])
            if room < 0:  # many tensors may share one part of a file
                raise NotAuditable(
                    f"the tensors of {name} need more than {untrusted_paths.LARGEST_FILE / 2**30:.0f} GiB of "
                    "external data",
                    AGAIN,
                )
    used = {NARROW_OR_WIDE[t.data_type] for t in found.tensors if t.data_type in NARROW_OR_WIDE and len(t.dims)}
    return OnnxFile(model, digest.hexdigest(), tuple(sorted(used)))


def _parse(content: bytes, name: str) -> ModelProto:
    model = ModelProto()
    try:
        if len(content) > protobuf_count.MOST_FIELDS * protobuf_count.SMALLEST_FIELD:
            protobuf_count.count_fields(content)
        model.ParseFromString(content)
    except protobuf_count.TooManyFieldsError as error:
        raise NotAuditable(f"{name} holds more than {protobuf_count.MOST_FIELDS} fields", AGAIN) from error
    except (DecodeError, protobuf_count.DamagedError) as error:
        if content[:1] == b"\x08" and b"\0" in content[:4096]:
            raise NotAuditable(f"{name} is a truncated or damaged ONNX file", DAMAGED) from error
        raise NotAuditable(f"{name} is not an ONNX file", NO_ONNX) from error
    if not model.ir_version or not model.HasField("graph"):
        raise NotAuditable(f"{name} is not an ONNX file", NO_ONNX)
    if not model.opset_import or not model.graph.node or not model.graph.output:
        raise NotAuditable(f"{name} is a truncated or damaged ONNX file", DAMAGED)
    return model


def _walked(model: ModelProto, name: str) -> _Contents:
    """Visit every tensor of a model, whatever field it stands in, and check what can be checked without its data."""
    found = _Contents([])
    for graph_tensors in (
        _tensors(model.graph, 0, found),
        (t for function in model.functions for t in _node_tensors(function.node, 0, found)),
        (t for function in model.functions for a in function.attribute_proto for t in _attribute(a, 0, found)),
    ):
        for tensor in graph_tensors:
            found.tensors.append(tensor)
            if len(found.tensors) > MOST_TENSORS:
                raise NotAuditable(f"{name} holds more than {MOST_TENSORS} tensors", AGAIN)
            if any(extent < 0 for extent in tensor.dims):
                raise NotAuditable(
                    f"tensor '{printable(tensor.name)}' is damaged: its shape is {printable(str(tuple(tensor.dims)))}",
                    AGAIN,
                )
    if found.sparse > MOST_SPARSE:
        raise NotAuditable(
            f"sparse tensors of {name} stand for {found.sparse:.1e} numbers (at most {MOST_SPARSE:.1e})",
            "export the model with dense weights",
        )
    if found.names * found.graphs > MOST_NAMES_SEEN:
        raise NotAuditable(
            f"{name} has {found.graphs} graphs inside nodes and {found.names} names, too many to follow",
            "export the model without control flow",
        )
    return found


def _tensors(graph: GraphProto, depth: int, found: _Contents) -> Iterator[TensorProto]:
    if depth > DEEPEST_NESTING:
        raise NotAuditable(
            f"graphs are nested more than {DEEPEST_NESTING} deep", "export the model without control flow"
        )
    found.graphs += depth > 0
    found.names += len(graph.initializer) + len(graph.input)
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        found.sparse += math.prod(map(abs, sparse.dims))
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node, depth, found)


def _node_tensors(nodes: "Iterator[NodeProto]", depth: int, found: _Contents) -> Iterator[TensorProto]:
    for node in nodes:
        found.names += len(node.output)
        for attribute in node.attribute:
            yield from _attribute(attribute, depth, found)


def _attribute(attribute: AttributeProto, depth: int, found: _Contents) -> Iterator[TensorProto]:
    """Yield what an attribute holds in any of its fields, since its declared type may disagree with them."""
    yield from ([attribute.t] if attribute.HasField("t") else [])
    yield from attribute.tensors
    for sparse in (
        *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
        *attribute.sparse_tensors,
    ):
        found.sparse += math.prod(map(abs, sparse.dims))
        yield from (sparse.values, sparse.indices)
    for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
        yield from _tensors(graph, depth + 1, found)


def _entry(tensor: TensorProto, key: str, default: str = "") -> str:
    return next((entry.value for entry in tensor.external_data if entry.key == key), default)


def _fill(tensor: TensorProto, content: bytes) -> int:
    """Bring a tensor's external bytes into the model, and return how many they are."""
    wanted = BYTES.get(tensor.data_type)
    name = printable(tensor.name)
    if wanted is None:
        raise NotAuditable(f"tensor '{name}' has an element type that no gradient passes through", "export in float32")
    wanted *= math.prod(tensor.dims)
    try:
        offset = int(_entry(tensor, "offset", "0"))
        length = int(_entry(tensor, "length", str(wanted)))
    except ValueError as error:
        raise NotAuditable(f"tensor '{name}' has a damaged reference to external data", AGAIN) from error
    if offset < 0 or length != wanted or offset + length > len(content):
        raise NotAuditable(
            f"tensor '{name}' lies outside its external data file", "copy the data file again or " + AGAIN
        )
    tensor.raw_data = content[offset : offset + length]
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]
    return length
