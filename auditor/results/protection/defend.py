"""defend.json: where the protection of every kind of defence begins on one model, and what it costs."""

from typing import Literal

from auditor.results.attack import AttackProtocol
from auditor.results.declare import (
    Decibel,
    Later,
    LongName,
    Measured,
    Name,
    Paragraph,
    Seconds,
    Sentence,
    Share,
    record,
)
from auditor.results.model import AttackedModel, Environment
from auditor.results.scores import Grade

DEFEND: Literal["fl-audit/defend/1"] = "fl-audit/defend/1"


@record
class DefendTool:
    """What searched, and how hard: `work` and `max_time` are reference seconds, `steps` those of each search."""

    name: str
    version: str
    started: str
    command: tuple[LongName, ...]
    seed: int
    preset: str
    until: str
    work: Seconds
    max_time: Seconds
    steps: int


@record
class SettingBlock:
    """One setting, judged.

    Attributes
    ----------
    strength
        As the family tells it; 0 without any defence.
    specs
        What a user writes behind `--defence`, in this order.
    gone
        Whether no attack finds a clip; None where that could not be told, as `reason` says.
    attack, grade, psnr, gain
        Of the best finding, and of its best clip, dB; `attack` is empty where none ran.
    null_gain
        The most that the same attack scores over a blind guess on an unrelated update, dB; None where none was scored.
    cosine, snr
        Of what is seen and the same update bare; snr in dB.
    unadapted
        Attacks that have no form for this setting.
    """

    strength: Measured
    specs: tuple[LongName, ...]
    gone: bool | None
    reason: Sentence
    attack: Name
    grade: Grade | None
    psnr: Decibel | None
    gain: Decibel | None
    null_gain: Decibel | None
    cosine: Measured
    snr: Decibel
    unadapted: tuple[Name, ...]


@record
class ExposedBlock:
    """What linear analysis predicts of a setting: dB, dB at most, and the share of the modes' variance.

    `cap` is that of an analysis of leading modes alone, as documents of earlier versions tell it.
    """

    psnr: Decibel
    cap: Decibel | None
    determined: Share | None
    at_most: Later[Decibel | None] = None


@record
class FamilyBlock:
    """One kind of defence.

    Attributes
    ----------
    strength
        What its number is.
    settings
        Every setting that was judged, from weak to strong.
    weakest
        The weakest one at which no attack finds a clip; None where there is none.
    there
        The strongest one at which one does.
    advised
        The weakest one at which linear analysis does not call the clip exposed either; None where there is none.
    told
        Whether everything that was to be judged could be; else `reason` says why not.
    utility, epsilon
        Of the setting that is advised, else of the weakest one; None where it was not measured. Epsilon is that of one
        round at delta 1e-5, exactly; None where nothing bounds it.
    exposed
        Of the weakest setting.
    """

    name: LongName
    strength: Name
    settings: tuple[SettingBlock, ...]
    weakest: SettingBlock | None
    there: SettingBlock | None
    advised: SettingBlock | None
    told: bool
    reason: Sentence
    utility: Measured | None
    epsilon: Decibel | None
    exposed: ExposedBlock | None


@record
class UtilityBlock:
    """What utility is, and its value without any defence; `chance` is what guessing scores, where that is known.

    `rounds` are those of the short training; 0 for a function of the user's own.
    """

    measure: Name
    bare: Measured
    chance: Measured | None
    rounds: int


@record
class RecommendationBlock:
    """A setting that was measured to hide the finding on this model, the cheapest first."""

    specs: tuple[LongName, ...]
    text: Paragraph


@record
class DefendDocument:
    """Where protection begins, and what it costs.

    Attributes
    ----------
    size
        The smallest norm of the bare updates, by which strengths are told.
    bare
        Updates without any defence.
    families
        Empty where no attack finds a clip in the bare updates: there is nothing that could be hidden then.
    sentence
        What was found, in one.
    """

    schema: Literal["fl-audit/defend/1"]
    tool: DefendTool
    model: AttackedModel
    protocol: AttackProtocol
    clips: tuple[Name, ...]
    size: Measured
    bare: SettingBlock
    utility: UtilityBlock | None
    utility_reason: Sentence
    families: tuple[FamilyBlock, ...]
    recommendations: tuple[RecommendationBlock, ...]
    sentence: Paragraph
    not_claimed: tuple[Sentence, ...]
    environment: Environment
