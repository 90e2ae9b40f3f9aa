"""What a search for protection found, as defend.json has it (docs/defences.md)."""

from typing import Any

from auditor import __version__
from auditor.pipeline.defended.privacy_claim import round_epsilon
from auditor.pipeline.documents.attack import model_block, protocol_block
from auditor.pipeline.documents.environment import environment_block
from auditor.pipeline.protection.judging import Judged
from auditor.pipeline.protection.search import FamilySearch, Protection, Setting
from auditor.pipeline.protection.utility import Utility
from auditor.records import Skipped, record
from auditor.results.encode import document
from auditor.results.protection.defend import (
    DEFEND,
    DefendDocument,
    DefendTool,
    ExposedBlock,
    FamilyBlock,
    RecommendationBlock,
    SettingBlock,
    UtilityBlock,
)
from auditor.results.scores import Grade

# A setting under which a model hardly learns is no advice, whatever it hides.
_LEAST_GAIN = 0.5
_NOT_CLAIMED = (
    "A clip that these attacks do not find may be found by another attack, with more steps, or with frames of its "
    "scene.",
    "One draw of every defence, on these clips: other clips and draws move the weakest setting by tens of percent.",
    "What is gone at a setting is taken to be gone at stronger ones.",
    "Labels, and whether a clip took part, are not what is judged here.",
)


@record
class Defended:
    """What `auditor.defend` returns: the content of defend.json."""

    results: dict[str, Any]


def defend_document(found: Protection) -> dict[str, Any]:
    """Return the search as plain values."""
    options, first = found.options, found.utility
    made = DefendDocument(
        schema=DEFEND,
        tool=DefendTool(
            name="fl-audit",
            version=__version__,
            started=found.started.isoformat(timespec="seconds"),
            command=options.command,
            seed=options.seed,
            preset=options.preset,
            until=options.until,
            work=found.seconds,
            max_time=options.max_time,
            steps=found.steps,
        ),
        model=model_block(found.context),
        protocol=protocol_block(found.context),
        clips=tuple(probe.name for probe in found.probes),
        size=found.size.norm,
        bare=_setting(0.0, found.bare),
        utility=None
        if isinstance(first, Skipped)
        else UtilityBlock(measure=first.measure, bare=first.value, chance=first.chance, rounds=found.rounds),
        utility_reason=first.reason if isinstance(first, Skipped) else "",
        families=tuple(map(_family, found.searches)),
        recommendations=tuple(_recommended(found)),
        sentence=_sentence(found),
        not_claimed=_NOT_CLAIMED,
        environment=environment_block(found.context.device),
    )
    return document(made)


def _setting(strength: float, judged: Judged) -> SettingBlock:
    best = judged.best
    return SettingBlock(
        strength=strength,
        specs=judged.specs,
        gone=judged.gone,
        reason=judged.why_not,
        attack="" if best is None else best.attack.name,
        grade=None if best is None else best.grade,
        psnr=None if best is None else best.psnr,
        gain=None if best is None else best.gain,
        null_gain=None if best is None else best.null_gain,
        cosine=judged.cosine,
        snr=judged.snr,
        unadapted=judged.unadapted,
    )


def _family(search: FamilySearch) -> FamilyBlock:
    exposed, costs = search.exposed, search.advised or search.weakest
    return FamilyBlock(
        name=search.family.name,
        strength=search.family.strength,
        settings=tuple(_setting(s.strength, s.judged) for s in search.settings),
        weakest=_of(search.weakest),
        there=_of(search.there),
        advised=_of(search.advised),
        told=search.told,
        reason=search.why_not,
        utility=None if search.utility is None else search.utility.value,
        epsilon=None if costs is None else round_epsilon(costs.judged.context.protocol),
        exposed=None
        if exposed is None
        else ExposedBlock(
            psnr=exposed.all.psnr,
            cap=exposed.all.cap,
            determined=exposed.all.determined,
            at_most=exposed.all.at_most,
        ),
    )


def _recommended(found: Protection) -> list[RecommendationBlock]:
    """Return what was measured to hide the finding, the least costly first: by utility, then by what noise is added."""
    hiding = [(s, s.advised) for s in found.searches if s.advised is not None and s.told and not _ruinous(s, found)]
    hiding.sort(key=lambda pair: (-_worth(pair[0]), -pair[1].judged.snr))
    return [RecommendationBlock(specs=a.judged.specs, text=_advice(s, a, found)) for s, a in hiding]


def _ruinous(search: FamilySearch, found: Protection) -> bool:
    """Tell whether training under the advised setting gains less than half of what it gains without."""
    bare, under = found.utility, search.utility
    if under is None or under.chance is None or not isinstance(bare, Utility):
        return False
    return under.value - under.chance < _LEAST_GAIN * (bare.value - under.chance)


def _worth(search: FamilySearch) -> float:
    return 0.0 if search.utility is None else search.utility.value


def _advice(search: FamilySearch, advised: Setting, found: Protection) -> str:
    judged = advised.judged
    by = "none ran" if judged.best is None else judged.best.attack.name
    analysed = "linear analysis was too large for memory" if search.exposed is None else "linear analysis agrees"
    said = [
        f"Use {' '.join(f'--defence {spec}' for spec in judged.specs)}: of the attacks that know it none finds a clip "
        f"(the strongest: {by}), and {analysed}."
    ]
    if search.utility is not None and isinstance(found.utility, Utility):
        said.append(f"{search.utility.measure}: {search.utility.value:.3g}, and {found.utility.value:.3g} without it.")
    if judged.unadapted:
        unadapted = ", ".join(judged.unadapted)
        said.append(f"{unadapted} found a clip without it and have no form for it: one may find more.")
    return " ".join(said)


def _of(setting: Setting | None) -> SettingBlock | None:
    return None if setting is None else _setting(setting.strength, setting.judged)


def _whose(found: Protection) -> str:
    best = found.bare.best
    if best is None or best.grade is not Grade.GIST:
        return ""
    return " Whose clip it is was told above chance: --until nothing searches for where that ends."


def _sentence(found: Protection) -> str:
    if found.bare.gone:
        return (
            "No attack finds a clip in updates without any defence: there is nothing that a defence could be seen to "
            f"hide, and nothing is recommended. That is what these attacks found, and no protection.{_whose(found)}"
        )
    told = "" if found.bare.best is None else f" by {found.bare.best.attack.name}"
    untold = [s.family.name for s in found.searches if not s.told]
    open_ends = f" Not judged to the end: {', '.join(untold)}." if untold else ""
    gone = sum(s.weakest is not None for s in found.searches)
    ruinous = sum(s.advised is not None and _ruinous(s, found) for s in found.searches)
    told_all = [f"{gone} of {len(found.searches)} kinds of defence hide it from these attacks at some setting"]
    if gone:
        told_all.append(f"linear analysis agrees for {sum(s.advised is not None for s in found.searches)} of them")
    if ruinous:
        told_all.append(f"{ruinous} cost more than half of what training gains, and are not recommended")
    return f"A clip is found{told} without any defence. {'; '.join(told_all)}.{open_ends}"
