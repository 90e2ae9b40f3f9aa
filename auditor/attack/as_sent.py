"""Updates as they travel: what of a simulated update would have been sent under the defences that the attacker knows.

A defence is to be audited by an attack that knows it. Each has its attacker's form beside its own (`records.Defence`).
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from auditor.records import Defence, Effect, split_at_sum

_ZEROS_KEPT: frozenset[Effect] = frozenset({"scale", "mask", "clamp", "rounding", "precision", "sign", "omission"})


def as_sent(
    defences: Sequence[Defence], ours: Mapping[str, Tensor], sent: Mapping[str, Tensor], *, intervals: bool = True
) -> Mapping[str, Tensor]:
    """Return `ours`, by parameter, under every defence in turn; differentiable in it. `sent` is what was observed.

    What clients do before their updates are added up is simulated by the client itself, one by one. Within the interval
    that rounds to what was sent an entry does not move; without `intervals` rounding is the next level, straight
    through, for those who count it as an error of the entry.
    """
    _, after = split_at_sum(defences)
    for place, defence in enumerate(after, start=1):
        later = after[place:]
        # Zeros of a mask are seen whatever else is done, but for noise.
        seen = not later or (defence.effect == "mask" and all(d.effect in _ZEROS_KEPT for d in later))
        seen = seen and (intervals or defence.effect != "rounding")
        if seen and later:
            ours = {name: g for name, g in ours.items() if name in sent}
        ours = defence.simulate(ours, sent if seen else None)
    return ours
