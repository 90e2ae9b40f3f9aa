"""Which attacks were left out because they have no form for a defence, although they would run without it."""

from auditor.attack import Attack, Preset
from auditor.exposure import determinacy
from auditor.pipeline.context import Context, Observed, observe_probes, view_of, without_defences
from auditor.pipeline.run_attack import run_attack
from auditor.records import Budget, Reconstruction, View

# A closed form that is not planned by its work takes seconds.
_SECONDS = 10.0


def left_out(context: Context, observed: Observed, preset: Preset) -> dict[str, tuple[str, ...]]:
    """Return the names of attacks by the first defence that they do not know, where they would run without defences.

    What a closed form would do is tried, since it may find on the way that it does not apply. Attacks that hold frames
    of the scene are not counted: the same attacks without them are.
    """
    defences = context.client.defences
    unmet = {a: next((d for d in defences if not a.meets(d)), None) for a in preset.attacks}
    if not any(unmet.values()):
        return {}
    bare = without_defences(context)
    (alone,) = observe_probes(bare, [observed.probe], [observed.labels[0]])
    view = view_of(bare, alone)
    found: dict[str, list[str]] = {}
    for attack, defence in unmet.items():
        if defence is not None and _runs(attack, bare, view):
            found.setdefault(str(defence), []).append(attack.name)
    return {defence: tuple(names) for defence, names in found.items()}


def _runs(attack: Attack, context: Context, view: View) -> bool:
    if attack.obstacle(view) is not None:
        return False
    shapes = {name: tuple(value.shape) for name, value in context.target.parameters.items()}
    layers = determinacy(context.target.layers, shapes, context.protocol.batch)
    if not attack.closed_form or attack.work(view, layers) is not None:
        return attack.needless(view) is None
    return isinstance(run_attack(attack, view, Budget(seconds=_SECONDS, steps=1), 0), Reconstruction)
