"""A changed copy of an ONNX file, read afterwards as any other: ONNX Runtime then witnesses what became of it."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from onnx import ModelProto

from auditor.errors import NotAuditable
from auditor.model.onnx.surgery.activations import change_activation
from auditor.model.onnx.surgery.first_convolution import change_stride
from auditor.model.onnx.surgery.graph_parts import flattened, folded
from auditor.model.onnx.surgery.norms import change_norm
from auditor.model.onnx.surgery.pooling import change_pooling
from auditor.model.sandbox.onnx_file import read_onnx
from auditor.model.surgery import check_change
from auditor.model.surgery.refusal import refused

Change = Callable[[ModelProto, str, int], str]
CHANGES: Mapping[str, Change] = {
    "activation": change_activation,
    "stride": change_stride,
    "norm": change_norm,
    "pooling": change_pooling,
}
# Of a message of protobuf.
_LARGEST = 2**31 - 1


@contextmanager
def changed_file(path: Path, change: tuple[str, str], seed: int) -> Iterator[tuple[Path, str]]:
    """Yield the path of a changed copy, which is there while active, and what was done.

    Parameters
    ----------
    seed
        Of weights that are drawn anew.

    Raises
    ------
    UsageError
        The change does not apply to this graph, or is none that is made in graphs.
    NotAuditable
        The file cannot be read.
    """
    name, value = change
    check_change(name, value)
    if name not in CHANGES:
        why = f"an ONNX graph is changed by {', '.join(CHANGES)} alone"
        raise refused(f"{name}={value}", why, "give path/file.py:factory, or compare two files")
    model = read_onnx(path).model
    folded(model)
    flattened(model)
    told = CHANGES[name](model, value, seed)
    del model.graph.value_info[:]  # shapes as they were
    if model.ByteSize() > _LARGEST:
        raise NotAuditable("a changed copy of this file is too large for one message", "give path/file.py:factory")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(model.SerializeToString())
        yield copy, f"Changed by {name}={value}: {told}."
