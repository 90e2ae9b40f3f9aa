"""Which attributes of which operator sets are understood, so that none is ignored in silence."""

import functools
from collections.abc import Mapping
from typing import Any

import onnx
from onnx import AttributeProto

OLDEST = 7
NEWEST = 28
_NO_SCHEMA: Mapping[tuple[str, str], frozenset[str]] = {
    ("com.microsoft", "QuickGelu"): frozenset({"alpha"}),
    ("com.microsoft", "Gelu"): frozenset(),
}
# Understood, and without influence here.
WITHOUT_EFFECT: Mapping[str, str] = {
    "stash_type": "everything is computed in the precision of the audit",
    "softmax_precision": "everything is computed in the precision of the audit",
    "saturate": "of 8-bit floats, which are refused",
    "round_mode": "of 8-bit floats, which are refused",
    "seed": "dropout is off, or drawn by the seed of the audit",
    "kernel_shape": "of convolutions: told by the weight",
    "hidden_size": "told by the weight",
    "sorted": "always sorted",
    "chunk_size": "a hint about speed",
}


@functools.cache
def understood(domain: str, operator: str) -> frozenset[str]:
    """Return the attributes that an operator has in the operator sets from OLDEST to NEWEST."""
    if domain:
        return _NO_SCHEMA.get((domain, operator), frozenset())
    names: set[str] = set()
    version = NEWEST
    while version >= OLDEST:
        try:
            schema = onnx.defs.get_schema(operator, version, "")
        except onnx.defs.SchemaError:
            break
        names |= schema.attributes.keys()
        version = min(version, schema.since_version) - 1
    return frozenset(names)


def default_of(domain: str, operator: str, attribute: str, opset: int) -> Any:
    """Return the default of an attribute in the newest schema that onnx has for an operator set; None without one."""
    try:
        schema = onnx.defs.get_schema(operator, opset, domain)
    except onnx.defs.SchemaError:
        return None
    if attribute not in schema.attributes:
        return None
    value = schema.attributes[attribute].default_value
    if value.type == AttributeProto.STRING:
        return value.s.decode("utf-8", "replace")
    if value.type == AttributeProto.UNDEFINED:
        return None
    plain = onnx.helper.get_attribute_value(value)
    return tuple(plain) if isinstance(plain, list) else plain
