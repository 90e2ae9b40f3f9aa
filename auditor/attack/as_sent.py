"""Updates as they travel: what of a simulated update would have been sent under the defences that the attacker knows.

A defence is to be audited by an attack that knows it. Each has its attacker's form beside its own (`records.Defence`).
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from auditor.records import Defence, split_at_sum


def as_sent(
    defences: Sequence[Defence], ours: Mapping[str, Tensor], sent: Mapping[str, Tensor]
) -> Mapping[str, Tensor]:
    """Return `ours`, by parameter, under every defence in turn; differentiable in it. `sent` is what was observed.

    What clients do before their updates are added up is simulated by the client itself, one by one.
    """
    _, after = split_at_sum(defences)
    for place, defence in enumerate(after, start=1):
        ours = defence.simulate(ours, sent if place == len(after) else None)
    return ours
