"""Reading an ONNX file that nobody vouches for: sizes, nesting and external data are checked before they are used."""

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto

from auditor.errors import NotAuditable
from auditor.model.graph import DEEPEST_NESTING, NARROW_OR_WIDE
from auditor.text import printable

LARGEST_FILE = 4 * 2**30
MOST_TENSORS = 200_000
AGAIN = "export the model again"
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


def read_onnx(path: Path) -> OnnxFile:
    """Read and check an ONNX file.

    Raises
    ------
    NotAuditable
        It is no ONNX file, damaged, too large, or points at data outside its folder.
    """
    name = printable(path.name)
    size = path.stat().st_size
    if size == 0:
        raise NotAuditable(f"{name} is empty", AGAIN)
    if size > LARGEST_FILE:
        raise NotAuditable(
            f"{name} has {size / 2**30:.1f} GiB (at most {LARGEST_FILE / 2**30:.0f} GiB are read)", AGAIN
        )
    content = path.read_bytes()
    model = _parse(content, name)
    digest = hashlib.sha256(content)
    tensors = list(_tensors(model.graph, 0))
    for function in model.functions:
        for node in function.node:
            for attribute in node.attribute:
                tensors += _attribute_tensors(attribute, 0)
    if len(tensors) > MOST_TENSORS:
        raise NotAuditable(f"{name} holds {len(tensors)} tensors (at most {MOST_TENSORS} are read)", AGAIN)
    outside = [tensor for tensor in tensors if tensor.data_location == TensorProto.EXTERNAL]
    for location in sorted({_entry(tensor, "location") for tensor in outside}):
        digest.update(checked(path.parent, location).read_bytes())
    for tensor in outside:
        _fill(tensor, path.parent)
    used = {NARROW_OR_WIDE[t.data_type] for t in tensors if t.data_type in NARROW_OR_WIDE and len(t.dims)}
    return OnnxFile(model, digest.hexdigest(), tuple(sorted(used)))


def _parse(content: bytes, name: str) -> ModelProto:
    model = ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        if content[:1] == b"\x08" and b"\0" in content[:4096]:
            raise NotAuditable(f"{name} is a truncated or damaged ONNX file", f"copy it again or {AGAIN}") from error
        raise NotAuditable(
            f"{name} is not an ONNX file", "give an ONNX file or a PyTorch factory (path/file.py:factory)"
        ) from error
    if not model.ir_version or not model.HasField("graph"):
        raise NotAuditable(
            f"{name} is not an ONNX file", "give an ONNX file or a PyTorch factory (path/file.py:factory)"
        )
    if not model.opset_import or not model.graph.node or not model.graph.output:
        raise NotAuditable(f"{name} is a truncated or damaged ONNX file", f"copy it again or {AGAIN}")
    return model


def _tensors(graph: GraphProto, depth: int) -> Iterator[TensorProto]:
    if depth > DEEPEST_NESTING:
        raise NotAuditable(
            f"graphs are nested more than {DEEPEST_NESTING} deep", "export the model without control flow"
        )
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from _attribute_tensors(attribute, depth)


def _attribute_tensors(attribute: AttributeProto, depth: int) -> Iterator[TensorProto]:
    if attribute.type == AttributeProto.TENSOR:
        yield attribute.t
    if attribute.type == AttributeProto.SPARSE_TENSOR:
        yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
    yield from attribute.tensors
    for graph in (*([attribute.g] if attribute.type == AttributeProto.GRAPH else []), *attribute.graphs):
        yield from _tensors(graph, depth + 1)


def _entry(tensor: TensorProto, key: str, default: str = "") -> str:
    return next((entry.value for entry in tensor.external_data if entry.key == key), default)


def checked(folder: Path, location: str) -> Path:
    """Return the path of an external data file that is safe to read."""
    shown = printable(location) or "(empty)"
    unsafe = "only load this model if you know where it comes from, and save it again with its data beside it"
    parts = Path(location).parts
    if (
        not location
        or "\0" in location
        or Path(location).is_absolute()
        or ".." in parts
        or "\\" in location
        or ":" in location
    ):
        raise NotAuditable(f"the model points at data outside its folder: '{shown}'", unsafe)
    path = folder / location
    home, real = os.path.realpath(folder), os.path.realpath(path)
    if os.path.commonpath([home, real]) != home:
        raise NotAuditable(f"the model points at data outside its folder: '{shown}'", unsafe)
    if not os.path.exists(real):
        raise NotAuditable(f"the model's external data '{shown}' is missing", "copy it next to the ONNX file")
    status = os.lstat(real)
    if not stat.S_ISREG(status.st_mode):
        raise NotAuditable(f"the model's external data '{shown}' is not a regular file", unsafe)
    if status.st_nlink != 1:
        raise NotAuditable(f"the model's external data '{shown}' is a hard link to another file", unsafe)
    if status.st_size > LARGEST_FILE:
        raise NotAuditable(f"the model's external data '{shown}' exceeds {LARGEST_FILE / 2**30:.0f} GiB", AGAIN)
    return Path(real)


def _fill(tensor: TensorProto, folder: Path) -> None:
    """Bring a tensor's external bytes into memory."""
    path = checked(folder, _entry(tensor, "location"))
    wanted = BYTES.get(tensor.data_type)
    name = printable(tensor.name)
    if wanted is None:
        raise NotAuditable(f"tensor '{name}' has an element type that no gradient passes through", "export in float32")
    for extent in tensor.dims:
        wanted *= extent
    try:
        offset = int(_entry(tensor, "offset", "0"))
        length = int(_entry(tensor, "length", str(wanted)))
    except ValueError as error:
        raise NotAuditable(f"tensor '{name}' has a damaged reference to external data", AGAIN) from error
    if offset < 0 or length != wanted or offset + length > path.stat().st_size:
        raise NotAuditable(
            f"tensor '{name}' lies outside its external data file", "copy the data file again or " + AGAIN
        )
    with path.open("rb") as stream:
        stream.seek(offset)
        tensor.raw_data = stream.read(length)
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]
