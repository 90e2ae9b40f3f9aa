"""Deep attacks on smaller clips with the same weights, where the audited size was not broken within its budget."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from auditor.attack import Preset
from auditor.model import on_smaller_clips
from auditor.pipeline.context import Context, Observed, observe_probes
from auditor.pipeline.deep.feature_maps import FeatureMap, feature_maps
from auditor.pipeline.deep.planning import DeepAttack, deep_attacks, planned_seconds, share_out
from auditor.pipeline.findings import Finding, make_findings
from auditor.pipeline.progress import Display
from auditor.pipeline.units import run_units
from auditor.probe import Galleries
from auditor.records import Ceiling, Clock, InputSpec, Probe, Skipped, Target, record
from auditor.score import Grade

# Clips that are attacked: each is the other's null control.
_CLIPS = 2
# Share of the attacks' work that is kept for smaller clips where searches at the audited size would be short.
SHARE = 0.25
# Steps of a search that are not short: r3d_18 at 16x112x112 was recognisable after 80.
_LONG = 100
_WHAT = "smaller clips"


@record
class ScaledDown:
    """What deep attacks recovered of smaller clips: evidence on the same weights, not on the audited size."""

    input: InputSpec
    findings: tuple[Finding, ...]
    maps: tuple[FeatureMap, ...]

    @property
    def shown(self) -> bool:
        """Whether a recognisable clip was recovered, with a null control that held."""
        return broken(self.findings)


def broken(findings: Sequence[Finding]) -> bool:
    """Tell whether a finding that counts shows a recognisable clip."""
    return any(f.counts and f.grade >= Grade.RECOGNISABLE for f in findings)


def seconds_for_smaller(target: Target, deep: Sequence[DeepAttack | Skipped], seconds: float) -> float:
    """Return what of the attacks' work is kept for smaller clips: none where searches are long, or it takes none."""
    runs = [one for one in deep if isinstance(one, DeepAttack)]
    if all(_long(one, seconds / len(runs)) for one in runs) or next(on_smaller_clips(target), None) is None:
        return 0.0
    return SHARE * seconds


def _long(deep: DeepAttack, seconds: float) -> bool:
    share = share_out(deep, _CLIPS, seconds)
    return share.clips == _CLIPS and share.steps >= min(_LONG, deep.steps)


def scaled_down(
    context: Context,
    preset: Preset,
    probes_of: Callable[[InputSpec], Sequence[Probe]],
    seconds: float,
    scoring: float,
    display: Display,
    ceiling: Ceiling | None = None,
) -> ScaledDown | Skipped:
    """Run the preset's deep attacks on the largest smaller clips that the seconds hold, or say why none.

    Parameters
    ----------
    probes_of
        The audit's probes at another size; the first ones are used.
    scoring
        Reference seconds that every run costs afterwards.
    ceiling
        By the wall clock: runs that would end later are left out.
    """
    clock = Clock(seconds)
    found = fitting(context, preset, probes_of, seconds)
    if isinstance(found, Skipped):
        return found
    smaller, observed, deep = found.context, found.observed, found.deep
    alone = replace(preset, attacks=tuple(one.attack for one in deep))
    ran, _ = run_units(smaller, observed, alone, Clock(clock.left), 1.0, scoring, display, deep=deep, ceiling=ceiling)
    findings = make_findings(smaller, observed, ran, Galleries(smaller.input, [o.probe for o in observed]))
    return ScaledDown(input=smaller.input, findings=findings, maps=feature_maps(smaller, observed, ran))


@record
class Fitting:
    """The largest smaller clips that deep attacks have the work for: their set-up, updates and attacks."""

    context: Context
    observed: tuple[Observed, ...]
    deep: tuple[DeepAttack, ...]


def fitting(
    context: Context, preset: Preset, probes_of: Callable[[InputSpec], Sequence[Probe]], seconds: float
) -> Fitting | Skipped:
    """Return the largest smaller clips on which the preset's deep attacks run within the seconds, or why none."""
    clock = Clock(seconds)
    why = Skipped(
        stage="scaled-down", what=_WHAT, because="not-applicable", reason="the network takes clips of its own size"
    )
    for target in on_smaller_clips(context.target):
        smaller = replace(context, target=target)
        probes = [p for p in probes_of(target.input) if p.kind != "canary"][:_CLIPS]
        observed = observe_probes(smaller, probes)
        deep = tuple(one for one in deep_attacks(smaller, observed, preset) if isinstance(one, DeepAttack))
        if not deep:
            return replace(why, reason="no deep attack applies to it")
        if planned_seconds(deep, len(probes)) <= clock.left:
            return Fitting(context=smaller, observed=tuple(observed), deep=deep)
        size = "x".join(map(str, (target.input.frames, target.input.height, target.input.width)))
        why = replace(
            why,
            because="out-of-budget",
            reason=f"{planned_seconds(deep, len(probes)):.0f} s of work for {size} were more than was left",
            remedy="give more --max-time",
        )
    return why
