"""Mutations that know nothing of the format: what a bad disk, a bad copy or a bored attacker does to a file."""

import random
from collections.abc import Callable

EXTREMES = (b"\xff" * 9 + b"\x01", b"\xff\xff\xff\xff\x0f", b"\x80" * 9 + b"\x01", b"\xff\xff\xff\xff\x07", b"\0")


def flip(r: random.Random, content: bytearray) -> None:
    """Change single bits."""
    for _ in range(r.choice((1, 1, 2, 4, 16))):
        content[_place(r, content)] ^= 1 << r.randrange(8)


def overwrite(r: random.Random, content: bytearray) -> None:
    """Change whole bytes."""
    for _ in range(r.choice((1, 3, 10))):
        content[_place(r, content)] = r.randrange(256)


def truncate(r: random.Random, content: bytearray) -> None:
    """Drop the end."""
    del content[_place(r, content) :]


def cut(r: random.Random, content: bytearray) -> None:
    """Drop a part in the middle."""
    at = _place(r, content)
    del content[at : at + r.choice((1, 4, 64, 1000))]


def insert(r: random.Random, content: bytearray) -> None:
    """Put random bytes in between."""
    at = _place(r, content)
    content[at:at] = r.randbytes(r.choice((1, 2, 10, 100)))


def duplicate(r: random.Random, content: bytearray) -> None:
    """Repeat a part, a few or many times."""
    at = _place(r, content)
    part = content[at : at + r.choice((2, 16, 200, 2000))]
    content[at:at] = part * r.choice((1, 2, 50))


def splice(r: random.Random, content: bytearray) -> None:
    """Move a part to another place."""
    at, to = _place(r, content), _place(r, content)
    part = content[at : at + r.choice((4, 40, 400))]
    content[to : to + len(part)] = part


def varint(r: random.Random, content: bytearray) -> None:
    """Replace a byte by the longest, largest or emptiest number that the wire format can hold."""
    at = _place(r, content)
    content[at : at + 1] = r.choice(EXTREMES)


BYTES: tuple[Callable[[random.Random, bytearray], None], ...] = (
    flip,
    overwrite,
    truncate,
    cut,
    insert,
    duplicate,
    splice,
    varint,
)


def _place(r: random.Random, content: bytearray) -> int:
    """Choose a position, more often near the beginning or the end, where the structure is."""
    size = max(len(content), 1)
    where = r.randrange(3)
    if where == 0:
        return r.randrange(min(size, 2000))
    return r.randrange(size) if where == 1 else max(0, size - 1 - r.randrange(min(size, 4000)))


def damaged(r: random.Random, content: bytes) -> bytes:
    """Return a copy with one to three kinds of damage."""
    broken = bytearray(content)
    for _ in range(r.choice((1, 1, 2, 3))):
        if broken:
            r.choice(BYTES)(r, broken)
    return bytes(broken)
