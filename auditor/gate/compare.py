"""How each alert stands against that of a baseline: new, worse, same, better or fixed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from auditor.gate.layers import matched
from auditor.gate.spread import Spread
from auditor.gate.standing import Standing, standings, tells_families
from auditor.results.consistency import GRADES
from auditor.results.judgement import State

Results = Mapping[str, Any]
_WITHIN = "within the spread of repeats"


@dataclass(frozen=True, slots=True)
class Change:
    """One rule about one subject, before and after.

    Attributes
    ----------
    now
        The later standing; the earlier one where the later audit has none.
    key
        What the fingerprint is made of: the name that the layer has in the baseline.
    state, reason
        What became of it, and what that follows from.
    clear
        Whether the change is beyond the spread of repeats. What is not is never a regression.
    """

    now: Standing
    key: tuple[str, str, str]
    state: State
    reason: str
    clear: bool


def compare(old: Results, new: Results) -> tuple[Spread, tuple[Change, ...]]:
    """Return what became of everything that either audit shows, and what counts as a change.

    What neither shows is left out.
    """
    by_family = tells_families(old) and tells_families(new)
    before, after = standings(old, by_family), standings(new, by_family)
    names = matched(old["layers"], new["layers"])
    spread = Spread.of(before.values(), after.values())
    found: list[Change] = []
    seen: set[tuple[str, str, str]] = set()
    for standing in after.values():
        key = _key_before(standing, names)
        seen.add(key)
        change = _change(before.get(key), standing, spread)
        if change is not None:
            found.append(replace(change, key=key))
    gone = [s for key, s in before.items() if key not in seen and s.present]
    return spread, (*found, *(_gone(standing, after, new) for standing in gone))


def _key_before(standing: Standing, names: Mapping[str, str]) -> tuple[str, str, str]:
    """The key that a standing has in the baseline: a layer goes by the name that it had there."""
    if not standing.layer:
        return standing.key
    # A layer that is new may bear the name of another one that was.
    known = names.get(standing.layer, "" if standing.layer in names.values() else standing.layer)
    return (standing.rule, known or f"{standing.subject} (new)", standing.threat_model)


def _change(old: Standing | None, new: Standing, spread: Spread) -> Change | None:
    if old is None or (not old.present and not new.present):
        return _appeared(new) if old is None else None
    if new.exposure is not None and old.exposure is not None:
        return _exposed(old, new, spread)
    if not new.trusted:
        return Change(new, new.key, "same", "its null control did not hold this time: taken as it was", False)
    if old.present and new.present:
        return _both(old, new, spread)
    return _one(old, new, spread)


def _appeared(new: Standing) -> Change | None:
    """What the baseline knows nothing of: it did not apply there."""
    if not new.present:
        return None
    return Change(new, new.key, "new", "the baseline has nothing of the kind", True)


def _one(old: Standing, new: Standing, spread: Spread) -> Change:
    """What only one of the two audits shows."""
    state: State = "new" if new.present else "fixed"
    if new.grade is None or old.grade is None:
        return Change(new, new.key, state, "it was not so in the baseline" if new.present else "no longer so", True)
    # Both ways the same evidence decides: what could come by chance can go by chance.
    evidence = spread.rise(old, new) if new.present else spread.fall(old, new)
    if (new if new.present else old).certain:
        evidence = "it rests on a proof"
    if not evidence:
        return Change(new, new.key, "same", f"{_grades(old, new)}, {_WITHIN}", False)
    return Change(new, new.key, state, f"{_grades(old, new)}; {evidence}", True)


def _both(old: Standing, new: Standing, spread: Spread) -> Change:
    """What both audits show: by grade, then by the clips on which one of them comes closer."""
    if new.grade is None:
        return Change(new, new.key, "same", "so it was in the baseline", False)
    more = _sign(new.grade, old.grade) or _sign(spread.clips(old, new), spread.clips(new, old))
    risen, fallen = spread.rise(old, new), spread.fall(old, new)
    if risen and more >= 0:
        return Change(new, new.key, "worse", f"{_grades(old, new)}; {risen}", True)
    if fallen and more <= 0:
        return Change(new, new.key, "better", f"{_grades(old, new)}; {fallen}", True)
    return Change(new, new.key, "same", f"{_grades(old, new)}, {_WITHIN}", False)


def _sign(new: int | None, old: int | None) -> int:
    return ((new or 0) > (old or 0)) - ((new or 0) < (old or 0))


def _exposed(old: Standing, new: Standing, spread: Spread) -> Change | None:
    assert old.exposure is not None
    assert new.exposure is not None
    change = new.exposure - old.exposure
    told = f"{change:+.1f} dB of exposure"
    same = f"{told}, within {spread.exposure:.0f} dB" if abs(change) <= spread.exposure else ""
    if (old.at_most is None) != (new.at_most is None):
        same = "exposure was measured in leading modes in one of the audits, and in all in the other: taken as it was"
    elif old.at_most is not None and new.at_most is not None and not same and change * (new.at_most - old.at_most) <= 0:
        # More work raises what is told at least and lowers what is told at most: a change of the model moves both.
        same = f"{told} at least, and no change of what is told at most: measured with other work"
    if same:
        if new.rule == "layer-exposure":
            return None  # every layer of a network is exposed somewhat: those that stay say nothing
        return Change(new, new.key, "same", same, False)
    if change > 0:
        return Change(new, new.key, "worse" if old.present else "new", told, True)
    return Change(new, new.key, "better" if new.present else "fixed", told, True)


def _gone(old: Standing, after: Mapping[Any, Standing], new: Results) -> Change:
    """What the later audit has nothing of: fixed, unless it did not look."""
    skipped = [s for s in new["skipped"] if s["what"] in old.attacks]
    # Whatever else keeps an attack from running, it could have found something.
    untested = next((s for s in skipped if s["because"] != "not-applicable"), None)
    if old.rule == "clip-reconstruction" and untested is not None:
        reason = f"{untested['what']} did not run this time ({untested['because']}): taken as it was"
        return Change(old, old.key, "same", reason, False)
    unknowing = old.attacks & {name for d in new["protocol"].get("defences") or () for name in d["unknown_to"]}
    if old.rule == "clip-reconstruction" and unknowing:
        reason = f"{min(unknowing)} has no form for the defences, and an adaptive one may find as much: taken as it was"
        return Change(old, old.key, "same", reason, False)
    stronger = [s for s in after.values() if s.present and (s.grade or 0) >= max(1, old.grade or 0)]
    if old.rule == "clip-reconstruction" and skipped and stronger:
        return Change(old, old.key, "same", "its attacks gave way to others, which show as much", False)
    if old.exposure is not None and new["exposure"]["all"] is None:
        return Change(old, old.key, "same", "exposure was not measured this time: taken as it was", False)
    if old.rule == "layer-exposure" and all(layer["exposure"] is None for layer in new["layers"]):
        return Change(old, old.key, "same", "layers' exposure was not measured this time: taken as it was", False)
    return Change(old, old.key, "fixed", "nothing of the kind applies any more", True)


def _grades(old: Standing, new: Standing) -> str:
    before, now = (GRADES[s.grade or 0].replace("_", " ") for s in (old, new))
    return f"{now} as before" if before == now else f"{before} before, {now} now"
