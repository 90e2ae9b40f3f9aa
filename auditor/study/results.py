"""From the units of a study to its results: a table of cells, and every claim judged."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from auditor import __version__
from auditor.attack import BY_NAME as ATTACKS
from auditor.journal.folder import Journal
from auditor.probe import camera
from auditor.records import record
from auditor.results.encode import document
from auditor.results.study import (
    STUDY,
    CellBlock,
    CellFeatures,
    CellNull,
    ClaimBlock,
    EffectBlock,
    EffectInterval,
    FailureBlock,
    MeasureBlock,
    MissingBlock,
    StudyAttackBlock,
    StudyBlock,
    StudyDocument,
    StudyModelBlock,
    StudyRun,
    StudyTimes,
    StudyTool,
)
from auditor.score import Interval, recall_interval
from auditor.study.cells import Cell, StudyUnit, Work
from auditor.study.claims import Decision, effect
from auditor.study.measures import BY_NAME, MEASURES, Nulls, Run
from auditor.study.pictures import pictures_block
from auditor.study.plan import Claim, Selector, Study
from auditor.study.runner import UnitDone


@record
class Done:
    """A unit that is done, with its result."""

    unit: StudyUnit
    run: Run


def study_results(
    study: Study, work: Work, preset: str, journal: Journal, ran: UnitDone, *, command: Sequence[str], started: str
) -> dict[str, Any]:
    """Return the content of study.json (docs/study.md); everything that depends on the clock is in `times`."""
    found = [(unit, journal.read(unit.key)) for unit in work.units]
    done = [Done(unit=unit, run=result) for unit, result in found if result is not None]
    effort = study.efforts[preset]
    made = StudyDocument(
        schema=STUDY,
        tool=StudyTool(name="fl-audit", version=__version__, preset=preset, command=tuple(command)),
        study=StudyBlock(
            title=study.title,
            source=study.source,
            question=study.question,
            file=study.path.name,
            sha256=study.sha256,
            clips=tuple(c.rpartition("/")[2] for c in study.clips),
            seeds=tuple(study.seeds),
            steps=effort.steps,
        ),
        models=tuple(_model(m, work, journal) for m in study.models if any(c.model is m for c in work.cells)),
        attacks=tuple(_attack(name) for name in dict.fromkeys(a for c in work.cells for a in c.attacks)),
        measures=tuple(MeasureBlock(name=m.name, unit=m.unit, meaning=m.meaning) for m in MEASURES),
        cells=tuple(_cell(c, done) for c in work.cells),
        claims=tuple(_claim(c, done) for c in study.claims),
        pictures=pictures_block(study, work, journal),
        runs=tuple(_run(d) for d in done),
        missing=MissingBlock(
            left_out=ran.left_out,
            failures=tuple(FailureBlock(what=f.title, reason=f.reason) for f in ran.failures),
            units=len(work.units) - len(done),
            of=len(work.units),
        ),
        times=StudyTimes(
            started=started,
            this_run=ran.seconds,
            resumed=ran.resumed,
            cpu_seconds=sum(float(d.run["seconds"]) for d in done),
        ),
    )
    return document(made)


def _model(model: Any, work: Work, journal: Journal) -> StudyModelBlock:
    options = model.options
    trained = [journal.read(t.key) for t in work.trainings if t.model is model]
    accuracies = [t["accuracy"] for t in trained if t is not None]
    source = options.model or f"{options.extractor} + {options.head}"
    return StudyModelBlock(
        name=model.name,
        kind=model.kind,
        source=" + ".join(part.rpartition("/")[2] for part in source.split(" + ")),
        weights=tuple(model.weights),
        training_accuracy=statistics.fmean(accuracies) if accuracies else None,
    )


def _attack(name: str) -> StudyAttackBlock:
    attack = ATTACKS[name]
    return StudyAttackBlock(name=name, title=attack.title, source=attack.source, configuration=repr(attack))


def _of(cell: Cell, done: Sequence[Done], role: str) -> list[Done]:
    return [d for d in done if d.unit.cell is cell and d.unit.role == role]


def _nulls(own: Done, done: Mapping[tuple[int, str], list[Run]]) -> Nulls:
    return tuple(done.get((id(own.unit.cell), own.unit.clip), ()))


def _by_clip(done: Sequence[Done]) -> dict[tuple[int, str], list[Run]]:
    found: dict[tuple[int, str], list[Run]] = {}
    for d in done:
        if d.unit.role == "null":
            found.setdefault((id(d.unit.cell), d.unit.clip), []).append(d.run)
    return found


def _cell(cell: Cell, done: Sequence[Done]) -> CellBlock:
    own, null = _of(cell, done, "own"), _of(cell, done, "null")
    attacked = [d for d in own if d.run["score"] is not None]
    nulls = _by_clip(done)
    # Neither seeds on one clip nor clips of one scene are independent trials: most of them have to find it.
    return CellBlock(
        model=cell.model.name,
        kind=cell.model.kind,
        weights=cell.weights,
        references=cell.references,
        attacks=tuple(sorted({d.run["attack"] for d in attacked})),
        runs=len(attacked),
        clips=len({d.unit.clip for d in attacked}),
        not_attacked=tuple(sorted({t for d in own if d.run["score"] is None for t in d.run["tried"]})),
        measures={m.name: _measured(m.name, own, nulls) for m in MEASURES},
        recall=_recall(attacked),
        null=CellNull(
            runs=sum(d.run["score"] is not None for d in null),
            psnr=_mean(d.run["score"]["psnr"] for d in null if d.run["score"] is not None),
            gain=_mean(d.run["score"]["gain"] for d in null if d.run["score"] is not None),
            recall=_recall(null),
            enhanced=_mean(e["over_bicubic"] for d in null for e in d.run["enhanced"]),
            enhanced_recall=_enhanced_recall(null),
        ),
        enhanced_recall=_enhanced_recall(attacked),
        features=_features(own, null),
    )


def _measured(name: str, own: Sequence[Done], nulls: Mapping[tuple[int, str], list[Run]]) -> EffectInterval | None:
    found = effect(_values(name, own, nulls), scene=camera)
    return None if found is None else EffectInterval(mean=found.mean, low=found.low, high=found.high)


def _values(name: str, own: Sequence[Done], nulls: Mapping[tuple[int, str], list[Run]]) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {}
    for d in own:
        value = BY_NAME[name].of(d.run, _nulls(d, nulls))
        if value is not None:
            values.setdefault(d.unit.clip, []).append(value)
    return values


def _recall(done: Sequence[Done]) -> Interval | None:
    scores = [(d.unit.clip, d.run["score"]) for d in done if d.run["score"] is not None]
    return _most([(clip, s["rank"] == 1, s["gallery"]) for clip, s in scores])


def _enhanced_recall(done: Sequence[Done]) -> Interval | None:
    return _most([(d.unit.clip, e["rank"] == 1, d.run["score"]["gallery"]) for d in done for e in d.run["enhanced"]])


def _most(found: Sequence[tuple[str, bool, int]]) -> Interval | None:
    if not found:
        return None
    by_clip: dict[str, list[bool]] = {}
    for clip, hit, _ in found:
        by_clip.setdefault(clip, []).append(hit)
    by_scene: dict[str, list[bool]] = {}
    for clip, seeds in by_clip.items():
        by_scene.setdefault(camera(clip), []).append(_mostly(seeds))
    hits = sum(map(_mostly, by_scene.values()))
    return recall_interval(hits, len(by_scene), min(size for _, _, size in found))


def _mostly(found: Sequence[bool]) -> bool:
    return 2 * sum(found) > len(found)


def _features(done: Sequence[Done], nulls: Sequence[Done]) -> CellFeatures | None:
    blocks = [d.run["features"] for d in done if d.run.get("features")]
    if not blocks:
        return None
    return CellFeatures(
        recovered=tuple(sorted({b["recovered"] for b in blocks})),
        largest_error=max((b["error"] for b in blocks if b["error"] is not None), default=None),
        recall=_by_features(done),
        null_recall=_by_features(nulls),
    )


def _by_features(done: Sequence[Done]) -> Interval | None:
    known = [(d.unit.clip, d.run["features"]) for d in done if d.run.get("features")]
    return _most([(clip, b["rank"] == 1, b["gallery"]) for clip, b in known])


def _mean(values: Iterable[Any]) -> float | None:
    known = [v for v in values if isinstance(v, int | float)]
    return statistics.fmean(known) if known else None


def _claim(claim: Claim, done: Sequence[Done]) -> ClaimBlock:
    nulls = _by_clip(done)
    own = _selected(claim.of, done)
    against = None if claim.against is None else _values(claim.measure, _selected(claim.against, done), nulls)
    found = effect(_values(claim.measure, own, nulls), against, camera)
    decision = Decision.UNDECIDED if found is None else found.decide(claim.margin)
    measure = BY_NAME[claim.measure]
    return ClaimBlock(
        name=claim.name,
        text=claim.text,
        note=claim.note,
        measure=measure.name,
        unit=measure.unit,
        meaning=measure.meaning,
        paired=claim.against is not None,
        margin=claim.margin,
        decision=decision.value,
        effect=None
        if found is None
        else EffectBlock(
            mean=found.mean,
            low=found.low,
            high=found.high,
            clips={c.rpartition("/")[2]: v for c, v in found.clips.items()},
            runs=found.runs,
            scenes=found.scenes,
            seeds=len({d.unit.seed for d in own}),
        ),
    )


def _selected(select: Selector, done: Sequence[Done]) -> list[Done]:
    return [
        d
        for d in done
        if d.unit.role == "own" and select.takes(d.unit.cell.model, d.unit.cell.weights, d.unit.cell.references)
    ]


def _run(d: Done) -> StudyRun:
    """One unit without what depends on the clock, and without what the journal alone needs."""
    return StudyRun(**{f.name: d.run[f.name] for f in fields(StudyRun) if f.name in d.run})
