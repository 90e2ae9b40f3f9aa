"""The seal of results.json: digests of its content and of its parts, against accident and careless edits.

Whoever edits a file on purpose can seal it again: only a signature (`auditor.verification.signing`) keeps that out, and
what follows from other values of the file is computed again by `fl-audit verify`.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from auditor.results.declare import Later, record

SEAL = "integrity"
# Part of the content, so that the digest covers it: a file from outside that is written again stays one.
UNSEALED = "unsealed"
_PICTURE = "data:image/"


@record
class SignatureBlock:
    """An Ed25519 signature of the digest (RFC 8032): the public key (32 bytes) and the signature (64), in hex."""

    algorithm: str
    key: str
    value: str


@record
class IntegrityBlock:
    """Digests (SHA-256, hex) of canonical JSON.

    Attributes
    ----------
    digest
        Of everything in the document but this block.
    parts
        Of every value at the top of the document by its key, and of all pictures in their order as `pictures`.
    signature
        None where the scan was given no key.
    """

    digest: str
    parts: Mapping[str, str]
    signature: Later[SignatureBlock | None] = None


def canonical(value: Any) -> bytes:
    """Return the canonical JSON of plain values: sorted keys, no white space, ASCII.

    >>> canonical({"b": 1.0, "a": ["ü"]})
    b'{"a":["\\\\u00fc"],"b":1.0}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def content_digest(results: Mapping[str, Any]) -> str:
    """Return the digest (hex) of plain results without their seal."""
    return _digest(_content(results))


def sealed(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain results with their seal: the one that they bear, signature and all, where it still holds."""
    held = results.get(SEAL)
    if held and held["digest"] == content_digest(results) and held["parts"] == _parts(results):
        return dict(results)
    return {**_content(results), SEAL: {"digest": content_digest(results), "parts": _parts(results), "signature": None}}


def broken_seal(results: Mapping[str, Any]) -> str:
    """Say what of the content is not as it was sealed; empty where everything is, or where there is no seal."""
    held = results.get(SEAL)
    if not held:
        return ""
    now = _parts(results)
    names = [name for name in (*now, *held["parts"]) if now.get(name) != held["parts"].get(name)]
    if names:
        return f"{', '.join(sorted(set(names))[:4])}: not as it was written"
    return "" if held["digest"] == content_digest(results) else "its digest is not that of its content"


def _content(results: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in results.items() if name != SEAL}


def _parts(results: Mapping[str, Any]) -> dict[str, str]:
    content = _content(results)
    return {**{name: _digest(value) for name, value in content.items()}, "pictures": _digest(list(_pictures(content)))}


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()


def _pictures(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if value.startswith(_PICTURE):
            yield value
    elif isinstance(value, Mapping):
        for name in sorted(value):
            yield from _pictures(value[name])
    elif isinstance(value, list):
        for item in value:
            yield from _pictures(item)
