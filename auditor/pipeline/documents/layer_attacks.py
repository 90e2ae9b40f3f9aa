"""What is written of single layers: what attacks recovered, in which order, and which layers are worth keeping back."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from auditor.exposure import Exposed
from auditor.federated import patterns_of
from auditor.pipeline.context import Context
from auditor.pipeline.documents.model import determined
from auditor.pipeline.documents.wording import named
from auditor.pipeline.findings import Finding
from auditor.pipeline.layerwise.partial_update import PartRecovered
from auditor.pipeline.layerwise.rank_correlation import LEAST_LAYERS, rank_correlation
from auditor.pipeline.layerwise.single_layers import LayerAttack, gradient_size
from auditor.pipeline.layerwise.study_layers import LayerStudy
from auditor.records import Exposure, Layer, Skipped
from auditor.results.layer_attacks import (
    LayerAttacksBlock,
    LayerRecovery,
    PartialRecovery,
    RankCorrelations,
    WithholdingBlock,
    WithholdingStep,
)
from auditor.results.model import LayerBlock
from auditor.score import grade_clip

# Two seeds of one search differ by less than this as a rule: below it no layer gave anything away.
_SAME_DB = 1.0
# A search that ends further below a prediction fell short of it: as in the calibration of exposure.
_SHORT_DB = 3.0


def with_recoveries(
    layers: Sequence[LayerBlock], context: Context, gradients: Mapping[str, Tensor], study: LayerStudy | Skipped | None
) -> tuple[LayerBlock, ...]:
    """Return the layers with the size of their gradients, and what attacks made of each and of the rest without it."""
    made = {} if not isinstance(study, LayerStudy) else {one.layer.index: one for one in study.found.layers}
    return tuple(
        replace(
            block,
            gradient=gradient_size(layer, gradients) if block.sent else None,
            recovery=_recovery(made[block.index]) if block.index in made else None,
        )
        for block, layer in zip(layers, context.target.layers, strict=True)
    )


def layer_attacks_block(
    study: LayerStudy | Skipped | None, exposed: Exposed | None, findings: Sequence[Finding]
) -> LayerAttacksBlock | None:
    """Return how single layers were attacked; None where nobody asked."""
    if study is None:
        return None
    if isinstance(study, Skipped):
        return LayerAttacksBlock(
            probe=None, steps=0, attacked=0, of=0, whole=None, ranks=None, withholding=None, reason=study.reason
        )
    found = study.found
    return LayerAttacksBlock(
        probe=found.subject.probe.name,
        steps=found.effort.steps,
        attacked=len(found.layers),
        of=found.of,
        whole=_part(found.whole),
        ranks=_ranks(study, exposed),
        withholding=withholding_block(study, findings),
        reason=found.left_out,
    )


def _recovery(one: LayerAttack) -> LayerRecovery:
    skipped = next((made for made in (one.alone, one.without) if isinstance(made, Skipped)), None)
    reason = "" if skipped is None else skipped.reason
    if one.without is None:
        reason = "nothing else is sent"
    return LayerRecovery(alone=_part(one.alone), without=_part(one.without), reason=reason)


def _part(made: PartRecovered | Skipped | None) -> PartialRecovery | None:
    if not isinstance(made, PartRecovered):
        return None
    return PartialRecovery(
        attack=made.attack,
        psnr=made.score.psnr,
        gain=made.score.gain,
        grade=made.grade,
        steps=made.steps,
        lowest=made.lowest,
        misfit=made.misfit,
    )


def _ranks(study: LayerStudy, exposed: Exposed | None) -> RankCorrelations:
    """Compare orders; whoever recovers nothing has the best blind guess, so that losses against it are ties."""
    context = study.found.subject.context
    made = [(one.layer, one.alone) for one in study.found.layers if isinstance(one.alone, PartRecovered)]
    gains = [max(0.0, alone.score.gain) for _, alone in made]
    shares = {name: d.share for d in determined(context) for name in d.layers}
    layers = [layer for layer, _ in made]
    by_exposure = [None if exposed is None else exposed.layers.get(layer.index) for layer in layers]
    return RankCorrelations(
        determined=rank_correlation([shares.get(layer.name) for layer in layers], gains),
        exposed=rank_correlation([None if e is None else e.psnr for e in by_exposure], gains),
        gradient=rank_correlation([study.found.sizes[layer.index] for layer in layers], gains),
        reason=_why(
            gains,
            [shares.get(layer.name) for layer in layers],
            sum(_fell_short(alone, e) for (_, alone), e in zip(made, by_exposure, strict=True)),
        ),
    )


def _fell_short(alone: PartRecovered, exposed: Exposure | None) -> bool:
    """Tell whether a search ended below what its layer exposes without having used what that says."""
    return exposed is not None and alone.misfit > exposed.sigma and alone.score.psnr < exposed.psnr - _SHORT_DB


def _why(gains: Sequence[float], shares: Sequence[float | None], short: int) -> str:
    if len(gains) < LEAST_LAYERS:
        return f"{len(gains)} layers were attacked: an order of fewer than {LEAST_LAYERS} may be luck"
    if max(gains) < _SAME_DB:
        return f"no layer alone gave more than {max(gains):.1f} dB over a blind guess: there is no order to predict"
    if short:
        return (
            f"{short} of {len(gains)} layers gave {_SHORT_DB:.0f} dB or more less than they expose, and their "
            "pictures' updates do not fit: longer searches may find more"
        )
    shown = sum(gain >= _SAME_DB for gain in gains)
    if shown < LEAST_LAYERS:
        return f"{shown} of {len(gains)} layers gave more than {_SAME_DB:.0f} dB over a blind guess: the rest are ties"
    if {share for share in shares if share is not None} == {1.0}:
        return "equations determine what each of them reads, so that shares order nothing"
    return ""


def withholding_block(study: LayerStudy, findings: Sequence[Finding]) -> WithholdingBlock:
    """Return what came of looking for a set, as a sentence that may be quoted, with its numbers."""
    search, found = study.withholding, study.found
    context = found.subject.context
    before = _own(findings, search.probes or (found.subject.probe.name,)) or _part(found.whole)
    steps = tuple(
        WithholdingStep(
            layers=tuple(layer.name for layer in step.layers),
            left=_part(step.left),
            share=_share(context, step.layers),
            strict=step.strict,
        )
        for step in search.steps
    )
    if search.confirmed is None:
        told = _none(search.reason, steps)
        return WithholdingBlock(layers=(), elements=0, share=0.0, before=before, after=None, steps=steps, sentence=told)
    layers, after = search.confirmed.layers, _part(search.confirmed.left)
    share = _share(context, layers)
    names = tuple(layer.name for layer in layers)
    gone = {name for layer in layers for name in layer.parameters}
    rest = [name for name in context.protocol.sent if name not in gone]
    return WithholdingBlock(
        layers=names,
        elements=sum(layer.elements for layer in layers),
        share=share,
        before=before,
        after=after,
        steps=steps,
        sentence=sentence(names, share, before, after),
        probes=search.probes,
        trainable=patterns_of(context.target.layers, list(context.target.parameters), rest),
        smallest=search.smallest,
    )


def _share(context: Context, layers: Sequence[Layer]) -> float:
    """Return the share of layers in the numbers that are sent."""
    sent = frozenset(context.protocol.sent)
    everything = sum(p.numel() for name, p in context.target.parameters.items() if name in sent)
    return sum(layer.elements for layer in layers) / max(1, everything)


def sentence(names: Sequence[str], share: float, before: PartialRecovery | None, after: PartialRecovery | None) -> str:
    """Return the answer: what to keep back, how much that is, and what it did."""
    told = f"Keep back {named(names)} ({share:.1%} of the numbers that are sent)"
    if before is None or after is None:
        return f"{told}: no attack then recovers a recognisable picture."
    fell = f"{before.psnr:.1f} to {after.psnr:.1f} dB, from {_grade(before)} to {_grade(after)}"
    told += f": the best picture falls from {fell}"
    if before.lowest and before.lowest != after.lowest:
        ends = f"ends at {_layer(after.lowest)}" if after.lowest else "does not begin"
        told += f", and the recursion, which came down to {_layer(before.lowest)}, {ends}"
    return f"{told}."


def _grade(made: PartialRecovery) -> str:
    return made.grade.name.lower().replace("_", " ")


def _none(reason: str, steps: Sequence[WithholdingStep]) -> str:
    tried = {step.layers: step.share or 0.0 for step in steps}
    told = f"No set of layers to keep back was found: {reason}"
    if not tried:
        return f"{told}."
    sets = "1 set was" if len(tried) == 1 else f"{len(tried)} sets were"
    return f"{told}; {sets} tried, of up to {max(tried.values()):.1%} of the numbers that are sent."


def _layer(weight: str) -> str:
    return weight.removesuffix(".weight")


def _own(findings: Sequence[Finding], probes: Sequence[str]) -> PartialRecovery | None:
    """Return the audit's own best picture of the clips without frames of the scene, where its null control held."""
    results = [
        (result, finding)
        for finding in findings
        if finding.counts and not finding.reference
        for result in finding.results
        if result.observed.probe.name in probes
    ]
    if not results:
        return None
    result, finding = max(results, key=lambda one: one[0].score.gain)
    sure = [d for r, _ in results for d in r.reconstruction.depth if d.how in ("exact", "completed")]
    return PartialRecovery(
        attack=finding.attack.name,
        psnr=result.score.psnr,
        gain=result.score.gain,
        grade=min(grade_clip(result.score), finding.grade),
        steps=result.reconstruction.steps,
        lowest=sure[-1].weights[0] if sure else "",
    )
