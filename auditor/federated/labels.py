"""Which class a probe is trained as: any label will do, but it must not depend on the order of the probes."""

import hashlib
from collections.abc import Sequence


def assign_labels(names: Sequence[str], classes: int, *, distinct: bool = True) -> tuple[int, ...]:
    """Give every probe a class derived from its name.

    With `distinct` no two probes share a class as long as there are enough classes.
    """
    labels: list[int] = []
    for name in names:
        label = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % classes
        while distinct and len(labels) < classes and label in labels:
            label = (label + 1) % classes
        labels.append(label)
    return tuple(labels)
