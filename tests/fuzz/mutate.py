"""One mutant for every (seed, number): the same pair always gives the same bytes."""

import random
from collections.abc import Mapping, Sequence

from bombs import BOMBS
from damage_bytes import damaged
from damage_structure import STRUCTURE
from google.protobuf.message import DecodeError, EncodeError
from onnx import ModelProto

KINDS = ("bytes", "structure", "structure", "bomb")


def mutant(seeds: Mapping[str, bytes], seed: int, number: int) -> tuple[str, bytes]:
    """Return what was done, in words, and the file's content."""
    r = random.Random(f"{seed}/{number}")
    name = r.choice(sorted(seeds))
    kind = r.choice(KINDS)
    if kind == "bytes":
        return f"{name}: bytes", damaged(r, seeds[name])
    model = ModelProto.FromString(seeds[name])
    done: Sequence[str]
    if kind == "bomb":
        bomb = r.choice(BOMBS)
        bomb(r, model)
        done = [bomb.__name__]
    else:
        steps = [r.choice(STRUCTURE) for _ in range(r.choice((1, 1, 1, 2, 4)))]
        done = []
        for step in steps:
            try:
                step(r, model)
                done.append(step.__name__)
            except (ValueError, TypeError, IndexError, DecodeError):  # protobuf refuses to hold the value
                done.append(f"({step.__name__})")
    try:
        return f"{name}: {', '.join(done)}", model.SerializeToString()
    except EncodeError:
        return f"{name}: unchanged", seeds[name]
