"""Counting what is in a protobuf file before it is parsed: two bytes of a file become hundreds in memory.

The parser builds an object for every field that holds a message, so a file of a few hundred megabytes of empty nodes
would fill any memory. Here the bytes are walked without building anything; the content of tensors is stepped over.
"""

from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor  # type: ignore[import-untyped]
from onnx import ModelProto

# r3d_18 has 2,000 fields and a transformer of 48 blocks 100,000.
MOST_FIELDS = 2_000_000
DEEPEST = 100
VARINT, FIXED64, LENGTH, BEGIN, END, FIXED32 = range(6)
SMALLEST_FIELD = 2


class TooManyFieldsError(Exception):
    """The file holds more fields than any model."""


class DamagedError(Exception):
    """The bytes are no protobuf."""


def count_fields(content: bytes) -> int:
    """Return how many fields a serialised ONNX model has, those of nested messages included.

    Raises
    ------
    TooManyFieldsError
        There are more than MOST_FIELDS.
    DamagedError
        A field ends beyond the message that holds it, or messages are nested too deep.
    """
    total = 0
    left: list[tuple[int, int, dict[int, Any], int]] = [(0, len(content), _messages(ModelProto.DESCRIPTOR), 0)]
    while left:
        at, end, messages, depth = left.pop()
        while at < end:
            total += 1
            if total > MOST_FIELDS:
                raise TooManyFieldsError
            tag, at = _varint(content, at)
            kind = tag & 7
            if kind == LENGTH:
                size, at = _varint(content, at)
                if at + size > end:
                    raise DamagedError
                inner = messages.get(tag >> 3)
                if inner is not None and size:
                    if depth >= DEEPEST:
                        raise DamagedError
                    left.append((at, at + size, _messages(inner), depth + 1))
                at += size
            elif kind == VARINT:
                _, at = _varint(content, at)
            elif kind in (FIXED64, FIXED32):
                at += 8 if kind == FIXED64 else 4
            elif kind not in (BEGIN, END):
                raise DamagedError
        if at != end:
            raise DamagedError
    return total


@cache
def _messages(descriptor: Descriptor) -> dict[int, Any]:
    """Return the fields of a message that hold messages."""
    return {field.number: field.message_type for field in descriptor.fields if field.message_type is not None}


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    try:
        while (byte := content[at]) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
            at += 1
            if shift > 63:
                raise DamagedError
    except IndexError as error:
        raise DamagedError from error
    return value | byte << shift, at + 1
