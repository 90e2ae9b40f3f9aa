"""What is said of a forward pass that computes in 16 bits or 8, as `torch.autocast` lets it."""

from collections.abc import Set

BITS = {"bfloat16": 8, "float16": 11, "float8_e4m3fn": 4, "float8_e5m2": 3}


def rounded_notes(halves: Set[str]) -> list[str]:
    """Return sentences on the precisions that were met, see `Observation.halves`.

    >>> [note[:24] for note in rounded_notes({"bfloat16"})], rounded_notes(set())
    (['Forward computes in bflo'], [])
    """
    return [
        f"Forward computes in {kind} (autocast or a cast): what clients send is rounded to {BITS[kind]} bits on the "
        "way, here as there, so reconstructions are rounded too and residuals do not vanish."
        for kind in sorted(halves & BITS.keys())
    ]
