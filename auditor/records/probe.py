"""A clip with a known truth."""

from collections.abc import Callable
from typing import Literal

from auditor.records.forms import Clip
from auditor.results.declare import record


@record
class Probe:
    """A clip with a known truth.

    Attributes
    ----------
    kind
        real, canary (carries a payload), texture, or user.
    clip
        At the model's resolution.
    native
        The same frames before they were resized to the model's input: the truth for super-resolution.
    payload
        The bits of a canary; None for other kinds.
    decode
        Reads a canary's bits from any clip of the model's shape, without knowing the payload; None for other kinds.
    moments
        Other windows of a user's footage at the model's resolution: what the same camera sees at other times.
    source, licence
        Where the clip comes from, and under what terms.
    """

    name: str
    kind: Literal["real", "canary", "texture", "user"]
    clip: Clip
    native: Clip
    sha256: str
    source: str
    licence: str = ""
    payload: tuple[int, ...] | None = None
    decode: Callable[[Clip], tuple[int, ...]] | None = None
    moments: tuple[Clip, ...] = ()
