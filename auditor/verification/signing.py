"""Sign the digest of results with an Ed25519 key (RFC 8032), and check such a signature: who sealed this file?"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from auditor.errors import UsageError
from auditor.results.protection.seal import SEAL, content_digest, sealed
from auditor.text import printable

ALGORITHM = "ed25519"
_MAKE = "openssl genpkey -algorithm ed25519 -out audit-key.pem"
_PUBLISH = "openssl pkey -in audit-key.pem -pubout -out audit-key.pub.pem"


def signed(results: Mapping[str, Any], key: Path) -> dict[str, Any]:
    """Return plain results sealed, and the seal signed with a private key (PEM or OpenSSH).

    Raises
    ------
    UsageError
        The key cannot be read, is no Ed25519 key, or `cryptography` is missing.
    """
    private = private_key(key)
    made = sealed(results)
    public = _raw(private.public_key())
    signature = private.sign(_message(made))
    block = {"algorithm": ALGORITHM, "key": public.hex(), "value": signature.hex()}
    return {**made, SEAL: {**made[SEAL], "signature": block}}


def private_key(path: Path) -> Any:
    """Read a private key, so that a scan of hours does not end in a key that is none.

    Raises
    ------
    UsageError
        See `signed`.
    """
    serialization = _library()
    loaders = (serialization.load_pem_private_key, serialization.load_ssh_private_key)
    return _loaded(path, [lambda data, load=load: load(data, password=None) for load in loaders], "private", _MAKE)


def public_key(path: Path) -> str:
    """Read a public key (PEM or OpenSSH), and return its 32 bytes in hex.

    Raises
    ------
    UsageError
        See `signed`.
    """
    serialization = _library()
    loaders = (serialization.load_pem_public_key, serialization.load_ssh_public_key)
    return _raw(_loaded(path, loaders, "public", _PUBLISH)).hex()


def holds(results: Mapping[str, Any]) -> bool:
    """Tell whether the signature of sealed results is one of their digest by the key that it names.

    Raises
    ------
    UsageError
        `cryptography` is missing.
    """
    _library()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    block = results[SEAL]["signature"]
    if block["algorithm"] != ALGORITHM:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(block["key"])).verify(
            bytes.fromhex(block["value"]), _message(results)
        )
    except (InvalidSignature, ValueError):
        return False
    return True


def _message(results: Mapping[str, Any]) -> bytes:
    return f"{results['schema']} sha256:{content_digest(results)}".encode("ascii")


def _raw(key: Any) -> bytes:
    return bytes(key.public_bytes_raw())


def _loaded(path: Path, loaders: Any, kind: str, remedy: str) -> Any:
    from cryptography.hazmat.primitives.asymmetric import ed25519

    name = printable(str(path), 200)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the key {name} ({error.strerror or type(error).__name__})", remedy) from None
    wanted = ed25519.Ed25519PrivateKey if kind == "private" else ed25519.Ed25519PublicKey
    for load in loaders:
        key = _tried(load, data)
        if isinstance(key, wanted):
            return key
    raise UsageError(f"{name} is no {kind} Ed25519 key without a password", f"make one: {remedy}")


def _tried(load: Callable[[bytes], Any], data: bytes) -> Any:
    """Return the key that a loader finds, or None: each knows one format, and says in its own way that it is not it."""
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return load(data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None


def _library() -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError:
        raise UsageError("signatures need the package cryptography", "pip install 'fl-audit[sign]'") from None
    return serialization
