"""One setting of a defence, judged by the strongest attacks that know it, each beside its null."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from auditor.attack import Attack, GradientMatching, Preset
from auditor.federated import BareSize, Loss
from auditor.options import ClientOptions
from auditor.pipeline.context import Context, Observed, view_of
from auditor.pipeline.deep.planning import deep_attacks
from auditor.pipeline.findings import Finding, best_of, make_findings
from auditor.pipeline.progress import Display
from auditor.pipeline.run_attack import obstacle, unmet
from auditor.pipeline.training import observe_all, trained
from auditor.pipeline.units import run_units
from auditor.probe import Galleries
from auditor.records import Clock, Probe, Skipped, Target, joint_norm, record
from auditor.score import Grade

# No search is cut: its steps are few, and the same at every setting.
_ENOUGH = 1e7


@record
class Shown:
    """What one attack made of a setting: its grade, and its best clip in dB; no clip and no update is kept.

    `finds` says whether it shows what has to be gone, with a null at chance; `null_gain` is the most that its nulls
    gain over a blind guess, None where there were none.
    """

    attack: Attack
    finds: bool
    grade: Grade
    psnr: float
    gain: float
    null_gain: float | None


@record
class Judged:
    """What attacks made of updates under a setting.

    Attributes
    ----------
    gone
        Whether no attack finds a clip; None where that could not be told, as `why_not` says.
    shown
        By attack, the best first; empty where none ran.
    cosine, snr
        Of what is sent and the bare update; snr in dB, infinite where nothing was changed. Means over the clips.
    size
        Of what is sent.
    unadapted
        Attacks that find a clip in the bare update, and have no form for this setting.
    """

    specs: tuple[str, ...]
    gone: bool | None
    why_not: str
    shown: tuple[Shown, ...]
    cosine: float
    snr: float
    size: BareSize
    unadapted: tuple[str, ...]
    context: Context

    @property
    def best(self) -> Shown | None:
        """The attack that stands for the setting."""
        return self.shown[0] if self.shown else None


@record
class Judge:
    """Judges settings on the same clips, with the same seeds and the same number of steps.

    A clip is found by an attack whose finding counts, its null being at chance, and is of grade `limit` or above.
    """

    target: Target
    options: ClientOptions
    loss: Loss
    probes: tuple[Probe, ...]
    galleries: Galleries
    preset: Preset
    limit: Grade
    pace: float
    display: Display

    def set_up(self, specs: Sequence[str]) -> Context:
        """Return the set-up of clients that use these defences."""
        return trained(self.target, replace(self.options, defence=tuple(specs)), self.loss)

    def bare(self) -> Judged:
        """Judge updates without defences, by every attack that applies."""
        return self((), self.preset.attacks, every=True)

    def __call__(
        self, specs: Sequence[str], attacks: Sequence[Attack], finding: Sequence[Attack] = (), *, every: bool = False
    ) -> Judged:
        """Judge a setting by attacks in this order; the first one that finds a clip ends it, unless `every` is to run.

        `finding` are those that find a clip in the bare update.

        Raises
        ------
        UsageError
            The setting does not fit the model or the protocol.
        """
        context = self.set_up(specs)
        observed = observe_all(context, self.probes)
        view = view_of(context, observed[0])
        applying = [a for a in attacks if obstacle(a, view) is None]
        if all(attack.closed_form for attack in applying):
            # It compares updates as they are sent, whatever the defences.
            applying = [*applying, GradientMatching()]
        findings: list[Finding] = []
        broken: list[Skipped] = []
        for attack in applying:
            made, left_out = self._attacked(context, observed, attack)
            findings += made
            broken += left_out
            if not every and any(map(self.finds, made)):
                break
        gone, why_not = self._gone(findings, broken)
        cosine, snr = self._changed(context, observed)
        return Judged(
            specs=tuple(specs),
            gone=gone,
            why_not=why_not,
            shown=tuple(map(self._shown, sorted(findings, key=_order, reverse=True))),
            cosine=cosine,
            snr=snr,
            size=_size([o.update.gradients for o in observed]),
            unadapted=tuple(a.name for a in finding if unmet(a, context.client.defences) is not None),
            context=context,
        )

    def _attacked(
        self, context: Context, observed: Sequence[Observed], attack: Attack
    ) -> tuple[tuple[Finding, ...], list[Skipped]]:
        alone = replace(self.preset, attacks=(attack,), seeds=1, diagnose=False)
        deep = deep_attacks(context, observed, alone)
        clock = Clock(_ENOUGH)
        ran, skipped = run_units(context, observed, alone, clock, self.pace, 0.0, self.display, deep=deep)
        return make_findings(context, observed, ran, self.galleries), [
            s for s in skipped if s.because != "not-applicable"
        ]

    def finds(self, finding: Finding) -> bool:
        """Tell whether a finding shows what has to be gone."""
        return finding.counts and finding.grade >= self.limit

    def _shown(self, finding: Finding) -> Shown:
        best = best_of(finding.results, finding.reference)
        return Shown(
            attack=finding.attack,
            finds=self.finds(finding),
            grade=finding.grade,
            psnr=best.score.psnr,
            gain=best.score.gain,
            null_gain=max((r.null.gain for r in finding.results if r.null is not None), default=None),
        )

    def _gone(self, findings: Sequence[Finding], broken: Sequence[Skipped]) -> tuple[bool | None, str]:
        """Return whether the clips are gone; what hinders an attack says nothing where another one finds them."""
        if any(map(self.finds, findings)):
            return False, ""
        if broken:
            return None, f"{broken[0].what}: {broken[0].reason}"
        if not findings:
            return None, "no attack applies"
        doubtful = next((f for f in findings if f.grade >= self.limit), None)
        if doubtful is not None:
            return None, f"{doubtful.attack.name} finds a clip, and in an unrelated update too"
        return True, ""

    def _changed(self, context: Context, observed: Sequence[Observed]) -> tuple[float, float]:
        """Return cosine and signal-to-noise ratio of what is seen and of what would be seen bare, means over clips."""
        summed = tuple(str(d) for d in context.client.defences if d.effect == "sum")
        if tuple(context.protocol.defence) == summed:
            return 1.0, float("inf")
        bare = observe_all(self.set_up(summed), self.probes, [o.labels[0] for o in observed])
        pairs = [compared(o.update.gradients, b.update.gradients) for o, b in zip(observed, bare, strict=True)]
        return sum(c for c, _ in pairs) / len(pairs), sum(r for _, r in pairs) / len(pairs)


def compared(sent: Mapping[str, Tensor], bare: Mapping[str, Tensor]) -> tuple[float, float]:
    """Return cosine, and 10 log10(||bare||^2 / ||sent - bare||^2) in dB; what was not sent is zero."""
    ours = torch.cat([sent.get(name, torch.zeros_like(g)).double().flatten() for name, g in bare.items()])
    theirs = torch.cat([g.double().flatten() for g in bare.values()])
    size, off = float(theirs.square().sum()), float((ours - theirs).square().sum())
    lengths = float(ours.norm() * theirs.norm())
    cosine = float(ours @ theirs) / lengths if lengths else 0.0
    if off == 0.0:
        return cosine, float("inf")
    return cosine, 10.0 * math.log10(size / off) if size else float("-inf")


def _order(finding: Finding) -> tuple[bool, Grade, float]:
    return finding.counts, finding.grade, max(r.score.gain for r in finding.results)


def _size(updates: Sequence[Mapping[str, Tensor]]) -> BareSize:
    entries = sum(g.numel() for g in updates[0].values())
    return BareSize(norm=min(joint_norm(one.values()) for one in updates), entries=entries)
