"""Which layers to keep back: a search for a small set without which no attack finds a recognisable picture."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from auditor.attack import Preset
from auditor.pipeline.layerwise.partial_update import EqualEffort, PartRecovered, Subject, recover
from auditor.pipeline.layerwise.single_layers import SEARCHES, LayerAttacks
from auditor.pipeline.layerwise.structural_sets import chains, cuts, ends, granted, size, unique
from auditor.pipeline.progress import Display
from auditor.pipeline.workers import Task, make_ahead
from auditor.records import Ceiling, Clock, Layer, Skipped, counting, record
from auditor.score import Grade, may_be_recognised

# A following audit of what is left has its budget for fewer attacks, draws other starts and meets other clips: a set
# that was confirmed with the audit's own work alone fell to it on two of three nets (benchmarks/README.md).
_LONGER = 2.0
# Of the work that the search was given, what confirming one set may take at most where sets were asked for.
_MOST = 3.0


@record
class Audited:
    """What the audit itself did with a clip.

    Attributes
    ----------
    seconds
        Of each attack: its longest run.
    shown
        Whether a picture was recognisable; `by` names the attacks of which one was.
    others
        Further clips that have to hold for a set which ends pictures of the first.
    spent
        Seconds of all runs together, which a following audit has for whatever still applies.
    """

    seconds: Mapping[str, float]
    shown: bool
    others: tuple[Subject, ...] = ()
    by: frozenset[str] = frozenset()
    spent: float = 0.0


@record
class Withheld:
    """A set of layers that was kept back, and what the strongest attack made of the rest.

    `strict` says whether that was the full battery with more work than the audit's.
    """

    layers: tuple[Layer, ...]
    left: PartRecovered | Skipped
    strict: bool = False


@record
class Withholding:
    """Where the search ended.

    Attributes
    ----------
    steps
        Every set that was tried, in the order of trial.
    confirmed
        The set that held under the full battery, on the clip of which most was left; None where none did.
    reason
        Why there is no answer; empty where there is one.
    probes
        The clips that were attacked under the full battery.
    smallest
        Whether every layer of the set was tried without: leaving any of them out of it gives a picture.
    """

    steps: tuple[Withheld, ...] = ()
    confirmed: Withheld | None = None
    reason: str = ""
    probes: tuple[str, ...] = ()
    smallest: bool = False

    @property
    def holds(self) -> bool:
        """Whether the full battery found no recognisable picture without the set."""
        return self.confirmed is not None and not self.reason


class _Ended(Exception):
    """The work is used up; the text says so in one clause."""


@counting()
def withhold(
    found: LayerAttacks,
    audited: Audited,
    preset: Preset,
    seconds: float,
    display: Display,
    ceiling: Ceiling,
    *,
    asked: bool = True,
) -> Withholding:
    """Look for a set of layers without which attacks on the rest of the update recover no recognisable picture.

    Every layer whose gradient alone gives one away belongs to any such set. To these are added, one set after another:
    the ends of the network; where a recursion came down from the head, the layers that read one of its values, the
    lowest that hold found by bisection; and at last as many layers as it takes, those without which least was left
    first, by bisection too. What holds in a trial is confirmed: by the full battery, on all clips, with twice the
    steps and the work that the audit spent on a clip, which must leave no picture that only the eye could judge: other
    clips come back better or worse (three of one net at a content of 0.31, 0.72 and 0.84). From the set that held,
    layers are taken out again one by one, the largest first, where it holds without them. Unless sets were `asked`
    for, nothing is tried that the work does not hold until it is confirmed.

    An attacker of the rest is given the gradient of the head's bias (`granted`).
    """
    if not _shown(found.whole) and not audited.shown:
        return Withholding(reason="no attack recovered a recognisable picture from the whole update")
    search = _SetSearch(found, audited, preset, seconds, asked, display, ceiling)
    reason = ""
    try:
        search.run()
    except _Ended as end:
        reason = str(end)
    if search.held is None:
        return Withholding(steps=tuple(search.steps), reason=reason or _no_set(found))
    clips = (found.subject.probe.name, *(subject.probe.name for subject in audited.others))
    return Withholding(steps=tuple(search.steps), confirmed=search.held, probes=clips, smallest=not reason)


class _SetSearch:
    """The state of one search: what it may still spend, what was tried, and the best set so far."""

    def __init__(
        self,
        found: LayerAttacks,
        audited: Audited,
        preset: Preset,
        seconds: float,
        asked: bool,
        display: Display,
        ceiling: Ceiling,
    ) -> None:
        # The one of which a picture was found last comes first: it most likely gives the next one too.
        self._found, self._subjects = found, [found.subject, *audited.others]
        self._context, self._display, self._ceiling = found.subject.context, display, ceiling
        self._asked, self._clock = asked, Clock(seconds)
        self._most = _MOST * seconds if asked else seconds
        longest = max(found.effort.seconds, *audited.seconds.values(), 0.0)
        self._own = EqualEffort(preset=preset, seconds=longest, steps=preset.steps, own=audited.seconds, enough=True)
        self._strict = EqualEffort(
            preset=preset,
            seconds=longest,
            steps=round(_LONGER * preset.steps),
            own={name: _LONGER * own for name, own in audited.seconds.items()},
            together=_LONGER * audited.spent,
            enough=True,
        )
        self._trial = replace(found.effort, enough=True) if _shown(found.whole) else self._of_those_that_showed(audited)
        # A set on one clip meets them all in the worst case.
        self._to_confirm = _LONGER * audited.spent * (1 + len(audited.others))
        self._must = tuple(one.layer for one in found.layers if _shown(one.alone))
        self._made: dict[tuple[int, ...], Withheld | None] = {}
        self._confirmed: dict[tuple[int, ...], Withheld | None] = {}
        self.steps: list[Withheld] = []
        self.held: Withheld | None = None

    def run(self) -> None:
        """Try sets until one holds, then take layers out of it again."""
        if not self._asked:
            self._begin(_planned(self._trial) + self._to_confirm)
        if self._any_of(self._with(ends(self._context))) or self._by_cuts() or self._by_growing():
            self._shrink()

    def _of_those_that_showed(self, audited: Audited) -> EqualEffort:
        """Return the effort of a trial where that of single layers shows nothing: the attacks of the audit that did."""
        preset = self._own.preset
        attacks = tuple(a for a in preset.attacks if a.closed_form or a.name in audited.by)
        return replace(self._own, preset=replace(preset, attacks=attacks))

    def _with(self, sets: Iterable[Sequence[Layer]]) -> list[tuple[Layer, ...]]:
        """Return the sets with all layers that have to be in any, each once, the smallest first."""
        first = [self._must] if self._must else []
        return sorted(dict.fromkeys([*first, *(unique((*self._must, *one)) for one in sets)]), key=size)

    def _any_of(self, sets: Sequence[tuple[Layer, ...]]) -> bool:
        """Try sets in their order; tell whether one holds."""
        self._ahead(sets)
        return any(self._holds(one) for one in sets)

    def _by_cuts(self) -> bool:
        """Try layers that a recursion has to pass: the nearer the head a cut is, the less is left of the clip."""
        if not self._recursion_showed:
            return False
        sets = [unique((*self._must, *one)) for one in cuts(self._context)[1:]]
        low, high = 0, len(sets)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self._dark(sets[middle]) else (low, middle)
        # Those nearer the head leave less, and are tried where one that passed does not hold.
        return self._any_of(sorted(sets[:low], key=size))

    @property
    def _recursion_showed(self) -> bool:
        made = [step.left for step in self.steps] + [self._found.whole]
        return any(isinstance(one, PartRecovered) and one.lowest and _shown(one) for one in made)

    def _by_growing(self) -> bool:
        """Keep back all from the head down, or all from the clip up, as far as it takes; take what is smaller."""
        best: Withheld | None = None
        for chain in chains(self._context):
            sets = [unique((*self._must, *one)) for one in chain]
            low, high = 0, len(sets)
            while low < high:
                middle = (low + high) // 2
                if self._holds(sets[middle]):
                    assert self.held is not None
                    high = middle
                    best = self.held if best is None or size(self.held.layers) < size(best.layers) else best
                else:
                    low = middle + 1
        self.held = best
        return best is not None

    def _shrink(self) -> None:
        """Take layers out again, the largest first, while the set holds without them."""
        assert self.held is not None
        must = {layer.index for layer in self._must}
        for layer in sorted(self.held.layers, key=lambda one: -one.elements):
            fewer = tuple(one for one in self.held.layers if one is not layer)
            if fewer and layer.index not in must:
                self._holds(fewer)

    def _holds(self, layers: tuple[Layer, ...]) -> bool:
        """Try a set and confirm it; keep it where it holds. What a trial missed, later trials look for harder."""
        if not self._dark(layers):
            return False
        confirmed = self._confirm(layers)
        if confirmed is not None and not _may_show(confirmed.left):
            self.held = confirmed
            return True
        self._trial = self._strict
        self._made = {key: made for key, made in self._made.items() if made is None or _shown(made.left)}
        self._made[_key(layers)] = confirmed
        return False

    def _dark(self, layers: tuple[Layer, ...]) -> bool:
        """Tell whether a trial finds no picture without a set."""
        if _key(layers) not in self._made:
            self._begin(_planned(self._trial))
            made = self._attack(self._subjects[0], layers, self._trial)
            self._made[_key(layers)] = made
            if made is not None and self._trial is not self._strict:
                self.steps.append(made)
            elif made is not None and _shown(made.left):
                self.steps.append(replace(made, strict=True))
        made = self._made[_key(layers)]
        return made is not None and not _shown(made.left)

    def _confirm(self, layers: tuple[Layer, ...]) -> Withheld | None:
        """Return what the full battery made of the clip that came back best; None where it could not be run."""
        if _key(layers) in self._confirmed:
            return self._confirmed[_key(layers)]
        self._begin(self._to_confirm)
        worst: Withheld | None = None
        for subject in tuple(self._subjects):
            tried = subject is self._subjects[0] and self._trial is self._strict
            one = self._made[_key(layers)] if tried else self._attack(subject, layers, self._strict)
            if one is None or not isinstance(one.left, PartRecovered):
                worst = None
                break
            worst = one if worst is None or _worse(one) > _worse(worst) else worst
            if _may_show(one.left):
                self._subjects.sort(key=lambda other: other is not subject)
                break
        worst = None if worst is None else replace(worst, strict=True)
        self._confirmed[_key(layers)] = worst
        if worst is not None:
            self.steps.append(worst)
        return worst

    def _begin(self, seconds: float) -> None:
        """End the search where the work does not hold what is planned for its next part."""
        left = max(0.0, self._clock.left)
        if self._ceiling.too_late("layers", "layers to keep back", seconds) is not None:
            raise _Ended("the time was up")
        if left == 0.0 or seconds > max(left, self._most):
            raise _Ended(f"the next set takes about {seconds:.0f} s of work, and {left:.0f} s were left")

    def _ahead(self, sets: Sequence[tuple[Layer, ...]]) -> None:
        """Let trials be made side by side where somebody can."""
        tasks = [partial(self._attack, self._subjects[0], one, self._trial) for one in sets]
        make_ahead([Task(run=run, seconds=self._trial.seconds) for run in tasks], self._display, self._ceiling)

    def _attack(self, subject: Subject, layers: tuple[Layer, ...], effort: EqualEffort) -> Withheld | None:
        """Attack a clip's update without these layers; None where nothing of it would be left."""
        gone = {name for layer in layers for name in layer.parameters}
        rest = [name for name in self._context.protocol.sent if name not in gone]
        if not rest:
            return None
        given = granted(self._context, layers)
        names = [name for name in self._context.protocol.sent if name not in gone or name in given]
        title = f"without {', '.join(layer.name for layer in layers)}"
        return Withheld(layers=layers, left=recover(subject, names, effort, self._display, title))


def _planned(effort: EqualEffort) -> float:
    """Return the seconds of attacks on one part."""
    if not effort.own:
        return SEARCHES * effort.seconds
    return sum(effort.own.get(a.name, 0.0) for a in effort.attacks)


def _key(layers: Sequence[Layer]) -> tuple[int, ...]:
    return tuple(layer.index for layer in layers)


def _shown(made: PartRecovered | Skipped | None) -> bool:
    return isinstance(made, PartRecovered) and made.grade >= Grade.RECOGNISABLE


def _may_show(made: PartRecovered | Skipped | None) -> bool:
    return isinstance(made, PartRecovered) and may_be_recognised(made.score)


def _left(made: PartRecovered | Skipped | None) -> float:
    """dB over the best blind guess; what no attack applies to leaves that guess."""
    return max(0.0, made.score.gain) if isinstance(made, PartRecovered) else 0.0


def _worse(held: Withheld) -> tuple[bool, float]:
    return _may_show(held.left), _left(held.left)


def _no_set(found: LayerAttacks) -> str:
    told = "whatever was kept back, attacks on the rest gave a recognisable picture"
    if len(found.layers) < found.of:
        told += f", with {len(found.layers)} of {found.of} layers attacked alone"
    return told
