"""What a recursion found of an update, kept: seeds, references and other attacks ask for it again."""

import weakref
from dataclasses import dataclass, fields

from torch import Tensor

from auditor.attack.recursion.layer_inputs import Descent
from auditor.attack.recursion.layer_inputs import descend as descend_anew
from auditor.records import Client, Target, View
from auditor.records.work import charge, work_so_far

# Descents that are kept, those of the last updates, and the numbers of each at most: 64 MiB in float64.
_KEPT, _LARGEST = 16, 8 << 20


@dataclass(frozen=True, eq=False)
class _Entry:
    """What was found of gradients that are still there; they are not held, so that a model ends with its audit."""

    gradients: tuple[weakref.ref[Tensor], ...]
    versions: tuple[int, ...]
    target: Target
    client: Client
    beliefs: tuple[object, ...]
    found: Descent | str
    work: float

    def answers(self, view: View, versions: tuple[int, ...]) -> bool:
        """Tell whether a view shows the same update of the same model to an attacker who believes the same of it."""
        gradients = view.update.gradients.values()
        return (
            self.versions == versions
            and self.target is view.target
            and self.client is view.client
            and self.beliefs == _beliefs(view)
            and len(self.gradients) == len(gradients)
            and all(held() is given for held, given in zip(self.gradients, gradients, strict=True))
        )


_known: list[_Entry] = []


def descend(view: View) -> Descent | str:
    """Return `layer_inputs.descend` of a view; its work is counted each time, so that budgets do not depend on it."""
    view.target.model.batchnorm(view.client.protocol.bn)
    view.target.model.dropout(False)
    gradients = tuple(view.update.gradients.values())
    versions = tuple(t._version for t in (*gradients, *view.target.parameters.values()))
    for entry in _known:
        if entry.answers(view, versions):
            charge(entry.work)
            return entry.found
    begun = work_so_far()
    found = descend_anew(view)
    if gradients and (isinstance(found, str) or _numbers(found) <= _LARGEST):
        work = work_so_far() - begun
        held = (weakref.ref(gradients[0], _forget), *map(weakref.ref, gradients[1:]))
        _known.append(_Entry(held, versions, view.target, view.client, _beliefs(view), found, work))
        del _known[:-_KEPT]
    return found


def _forget(gone: weakref.ref[Tensor]) -> None:
    _known[:] = [entry for entry in _known if entry.gradients[0] is not gone]


def _beliefs(view: View) -> tuple[object, ...]:
    """Return what the attacker knows besides frames of the scene, for which a recursion does not ask."""
    return tuple(getattr(view.knowledge, f.name) for f in fields(view.knowledge) if f.name != "reference")


def _numbers(found: Descent) -> int:
    deepest = found.deepest
    system = 0 if deepest.system is None else deepest.system.projections.numel() + deepest.system.known.numel()
    return system + deepest.value.numel() + deepest.operation.input.numel() + deepest.operation.output.numel()
