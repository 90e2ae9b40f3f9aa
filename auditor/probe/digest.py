"""The digest of a clip that has no file of its own."""

import hashlib

from auditor.records import Clip


def digest(clip: Clip) -> str:
    """Return the SHA-256 of the clip's float32 values (little-endian, row-major)."""
    return hashlib.sha256(clip.detach().cpu().float().contiguous().numpy().astype("<f4").tobytes()).hexdigest()
