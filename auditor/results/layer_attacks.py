"""What attacks recovered from single layers, from the update without them, and which layers are worth keeping back."""

from auditor.results.declare import Decibel, Later, LongName, Measured, Name, Sentence, Share, record
from auditor.results.scores import Grade


@record
class PartialRecovery:
    """What the strongest attack recovered from a part of an update: dB, and dB over the best blind guess.

    `lowest` is the lowest weight whose input a recursion read off, empty for none; `steps` those of the attack.
    `misfit` is how far the picture's update is from what was sent of the part, relative to that: 0 is the same.
    """

    attack: Name
    psnr: Decibel
    gain: Decibel
    grade: Grade
    steps: int
    lowest: Name = ""
    misfit: Later[Measured | None] = None


@record
class LayerRecovery:
    """One layer under attack: `alone` its gradient and nothing else, `without` all else that is sent.

    `reason` says why a number is missing.
    """

    alone: PartialRecovery | None
    without: PartialRecovery | None
    reason: LongName = ""


@record
class RankCorrelations:
    """Spearman's rank correlation over the layers that were attacked, with what each alone gave in dB over a guess.

    Of what equations determine, of exposure, and of the gradient's size; None where it cannot be told. `reason` says
    what the numbers do not: why they are missing or low.
    """

    determined: Measured | None
    exposed: Measured | None
    gradient: Measured | None
    reason: LongName = ""


@record
class WithholdingStep:
    """One set of layers that was tried, and what was recovered from the rest; None where nothing was.

    `share` is that of the numbers which are sent. `strict` says that the full battery met the rest, with twice the work
    of the audit, on all `probes`; else it was a trial, on one clip.
    """

    layers: tuple[Name, ...]
    left: PartialRecovery | None
    share: Later[Share | None] = None
    strict: Later[bool] = False


@record
class WithholdingBlock:
    """The smallest set that a search found without which no attack recovered a recognisable picture.

    Attributes
    ----------
    layers
        Empty where there is none; `sentence` then says why.
    elements, share
        How many numbers they hold, of those that are sent.
    before, after
        The strongest attack on the whole update, and that of the full battery on the rest, over the clips `probes`.
    steps
        Every set that was tried, in the order of trial.
    trainable
        Globs that name what is left: `--trainable` with each of them follows the advice.
    smallest
        Whether the set gives a picture away as soon as any of its layers is sent after all.
    """

    layers: tuple[Name, ...]
    elements: int
    share: Share
    before: PartialRecovery | None
    after: PartialRecovery | None
    steps: tuple[WithholdingStep, ...]
    sentence: Sentence
    probes: Later[tuple[Name, ...]] = ()
    trainable: Later[tuple[LongName, ...]] = ()
    smallest: Later[bool] = False


@record
class LayerAttacksBlock:
    """How single layers were attacked: `attacked` of the `of` layers that are sent, with `steps` for each search.

    `whole` is the whole update at the same effort; `reason` says why layers were left out, or all of them.
    """

    probe: Name | None
    steps: int
    attacked: int
    of: int
    whole: PartialRecovery | None
    ranks: RankCorrelations | None
    withholding: Later[WithholdingBlock | None] = None
    reason: LongName = ""
