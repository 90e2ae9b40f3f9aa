"""Sentences that the results carry: what was assumed, what was left out, and what could be done."""

from collections.abc import Sequence

from auditor.federated import parse_all
from auditor.pipeline.context import Context
from auditor.pipeline.documents.architecture_rules import KEEP_BACK, catalogue_evidence
from auditor.pipeline.findings import Finding, best_of
from auditor.pipeline.what_if import Variant
from auditor.records import FederatedProtocol, Skipped
from auditor.results.layer_attacks import WithholdingBlock
from auditor.results.sentences import summary_sentence
from auditor.text import printable

THREAT_TITLE = "Whoever sees one update: an honest-but-curious server, or an eavesdropper"
_ACTIVE = "a server that sends manipulated models (active attacks)"
_OTHER_ACTIVE = "a server that manipulates models in other ways than those tried beside the verdict"
_OTHER_TRAINING = {
    "FedSGD": "several local steps before sending (FedAvg), momentum, and several rounds of the same clips",
    "FedAvg": "several rounds of the same clips, and local training by other rules than SGD with momentum",
}
_DEFENCES = "secure aggregation, differential privacy, compression and other defences (see --defence)"
_OTHER_DEFENCES = "other defences than those named"
_GENERATIVE = "attackers with generative models trained on clips like the clients'"
# A change that moves the attack by less than this is not worth acting on: seeds differ by as much.
_WORTH_DB = 1.0
# More names make no sentence.
_NAMED = 3


def out_of_scope(protocol: FederatedProtocol, *, manipulated: bool = False) -> list[str]:
    """What no attack of the audit tried; `manipulated` where attacks of a malicious server were."""
    defences = _OTHER_DEFENCES if protocol.defence else _DEFENCES
    return [_OTHER_ACTIVE if manipulated else _ACTIVE, _OTHER_TRAINING[protocol.algorithm], defences, _GENERATIVE]


def assumptions(context: Context) -> list[str]:
    """What the attacker of every finding is assumed to know."""
    protocol = context.protocol
    reads = f"the loss ({printable(protocol.loss)}), the batch size and the BatchNorm mode ({protocol.bn})"
    buffers = (
        "the running statistics of BatchNorm after the step (FedAvg sends them with the weights)"
        if protocol.send_buffers
        else "no running statistics of BatchNorm: clients keep them (FedBN, Li et al. 2021)"
    )
    dropout = ["dropout is on at the client, and its masks are not known to the attacker"]
    return [
        "the model's architecture and its weights before the update (threat model C of Carletti et al. 2025)",
        *(["the extractor, which is public and never trained"] if context.target.parts else []),
        f"{_what_travels(protocol)}, in float32, "
        f"for {len(protocol.sent)} of {len(context.target.parameters)} parameter tensors",
        *_local_training(protocol),
        reads,
        *_under_defences(context),
        *([buffers] if context.target.fidelity.batchnorm == "kept" else []),
        *(dropout if protocol.dropout == "on" else []),
        "pixel normalisation and clip size "
        f"({context.input.frames} frames of {context.input.height}x{context.input.width})",
    ]


def _under_defences(context: Context) -> list[str]:
    """What the attacker knows of defences: all but their draws; and what a server does too late to matter to it."""
    return [
        f"the defence {printable(str(d), 60)}: {printable(d.told, 160)}" for d in parse_all(context.protocol.defence)
    ]


def _what_travels(protocol: FederatedProtocol) -> str:
    clips = f"{protocol.clips_each} clip{'s' if protocol.clips_each > 1 else ''}"
    whose = "clips of one client" if protocol.per_clip else "clients"
    each = f"the average over {protocol.clients} {whose} of " if protocol.clients > 1 else ""
    if protocol.algorithm == "FedSGD":
        return f"{each}the gradient of one FedSGD step on {clips}"
    steps = f"{protocol.steps} local SGD step{'s' if protocol.steps > 1 else ''}"
    return f"{each}how far the weights went in {steps} on {clips} (FedAvg)"


def _local_training(protocol: FederatedProtocol) -> list[str]:
    if protocol.algorithm == "FedSGD":
        return []
    known = (
        f"the client's learning rate ({protocol.learning_rate:g}), momentum ({protocol.momentum:g}), "
        f"epochs ({protocol.local_epochs}) and local batch ({local_batch(protocol)} of {protocol.clips_each})"
    )
    return [known] if protocol.local_batches == 1 else [known, "not the order of the clips within an epoch"]


def local_batch(protocol: FederatedProtocol) -> int:
    """Clips of one local step."""
    return min(protocol.local_batch or protocol.clips_each, protocol.clips_each)


def finding_assumes(finding: Finding) -> list[str]:
    """What this attacker needs beyond the common assumptions."""
    extra = []
    if finding.reference:
        count = finding.attack.frames_of_scene
        what = "one frame of the scene (R1)" if count == 1 else "several frames of the scene (Rk)"
        extra.append(f"{what}, such as the first of the client's clip")
    if finding.severity.vector.find("K:labels") >= 0:
        extra.append("the label of the clip, which no rule could restore here")
    return extra


def summary(finding: Finding) -> str:
    """One sentence on what the attack did."""
    best = best_of(finding.results, finding.reference)
    score = best.score
    blind = max(score.baselines, key=lambda n: score.baselines[n])
    return summary_sentence(
        finding.attack.title,
        finding.grade,
        score.psnr,
        best.observed.probe.name,
        score.gain,
        blind,
        finding.null_at_chance,
    )


def actions(
    context: Context,
    variants: Sequence[Variant],
    skipped: Sequence[Skipped],
    withholding: WithholdingBlock | None = None,
) -> list[dict[str, str]]:
    """What the reader can do: changes whose effect was measured first, then what would tell more."""
    found = [*_measured(variants), *_kept_back(withholding)]
    if context.target.fidelity.upper_bound:
        found.append(
            {
                "text": "Export the model so that it keeps what clients train, and audit again (see fidelity notes).",
                "effect": "not measured",
            }
        )
    if any(s.because == "out-of-budget" for s in skipped):
        found.append(
            {"text": "Repeat with a larger --preset or --max-time: some attacks did not fit.", "effect": "not measured"}
        )
    if not variants:
        found.append(
            {
                "text": "Measure what batch size, a frozen backbone and BatchNorm mode change: add --what-if.",
                "effect": "not measured",
            }
        )
    return found


def _measured(variants: Sequence[Variant]) -> list[dict[str, str]]:
    base = next((v for v in variants if v.baseline), None)
    if base is None or base.score is None:
        return []
    better = []
    for v in variants:
        if v.baseline or v.score is None or v.not_compared or not v.action:
            continue
        change = v.score.gain - base.score.gain
        if change <= -_WORTH_DB and not _exposes_more(v, base):
            how = "" if v.attack == base.attack else f", by {v.attack} where {base.attack} no longer applies"
            effect = f"attack gain {base.score.gain:+.1f} dB to {v.score.gain:+.1f} dB on one clip{how}"
            if v.exposed is not None and base.exposed is not None:
                effect += f", exposure {base.exposed.all.psnr:.1f} dB to {v.exposed.all.psnr:.1f} dB"
            told = {"text": v.action, "effect": f"{effect} (measured)", "evidence": catalogue_evidence(v.name)}
            better.append((change, told))
    return [action for _, action in sorted(better, key=lambda pair: pair[0])]


def _kept_back(withholding: WithholdingBlock | None) -> list[dict[str, str]]:
    """The layers without which the full battery found no recognisable picture."""
    if withholding is None or not withholding.layers or withholding.before is None or withholding.after is None:
        return []
    before, after = withholding.before, withholding.after
    if before.psnr - after.psnr < _WORTH_DB:
        return []
    share = f"{withholding.share:.1%} of the numbers that are sent"
    text = f"Keep back {named(withholding.layers)}: {share}."
    effect = f"the best picture of the clips falls from {before.psnr:.1f} dB to {after.psnr:.1f} dB (measured)"
    return [{"text": text, "effect": effect, "evidence": catalogue_evidence(KEEP_BACK)}]


def named(layers: Sequence[str]) -> str:
    """Return the first few of several layers, and how many more there are."""
    more = f" and {len(layers) - _NAMED} more layers" if len(layers) > _NAMED else ""
    return ", ".join(printable(name, 60) for name in layers[:_NAMED]) + more


def _exposes_more(variant: Variant, base: Variant) -> bool:
    """A weaker attack is no improvement where the update determines more than before."""
    if variant.exposed is None or base.exposed is None:
        return False
    return variant.exposed.all.psnr > base.exposed.all.psnr + _WORTH_DB
