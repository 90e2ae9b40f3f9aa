"""What a probe is trained as: any label will do, but it must not depend on the order of the probes."""

import hashlib
from collections.abc import Sequence

from auditor.federated.loss import TargetKind
from auditor.records import Label

# How many classes a multi-label clip shows at most.
MOST_PRESENT = 3
# Successive multiples of the golden ratio spread evenly over [0, 1).
_GOLDEN = 0.6180339887498949


def assign_labels(
    names: Sequence[str], classes: int, *, distinct: bool = True, kind: TargetKind = "class"
) -> tuple[Label, ...]:
    """Give every probe a label derived from its name, in the form that the loss needs.

    With `distinct` no two probes share a class as long as there are enough classes.
    """
    if kind != "class":
        return tuple(_label(name, classes, kind) for name in names)
    labels: list[int] = []
    for name in names:
        label = _number(name) % classes
        while distinct and len(labels) < classes and label in labels:
            label = (label + 1) % classes
        labels.append(label)
    return tuple(labels)


def batch_labels(
    first: Label, batch: int, classes: int, *, distinct: bool = True, kind: TargetKind = "class"
) -> tuple[Label, ...]:
    """Return the labels of a whole batch from that of its first clip: shifted one by one, or all the same."""
    if not distinct:
        return (first,) * batch
    return tuple(_shifted(first, k, classes, kind) for k in range(batch))


def _shifted(label: Label, by: int, classes: int, kind: TargetKind) -> Label:
    if isinstance(label, tuple):
        return tuple(sorted((c + by) % classes for c in label))
    if kind == "value":
        return round((label + by * _GOLDEN) % 1.0, 3)
    return (int(label) + by) % (2 if kind == "binary" else classes)


def _label(name: str, classes: int, kind: TargetKind) -> Label:
    number = _number(name)
    if kind == "binary":
        return number % 2
    if kind == "value":
        return number % 1000 / 1000
    most = max(1, min(MOST_PRESENT, classes - 1))
    order = sorted(range(classes), key=lambda c: _number(f"{name}\x1f{c}"))
    return tuple(sorted(order[: 1 + number % most]))


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
