"""Run a comparison: load every model, give all of them the same work, audit each under each seed, and order them."""

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any

import torch

from auditor import __version__
from auditor.attack import PRESETS, Preset
from auditor.comparison.candidates import Candidate, candidates_of
from auditor.comparison.measured import Measured
from auditor.comparison.options import ComparedModels
from auditor.comparison.written import MEASURES, gate_of, ordered_blocks, recommendations, remarks, summary
from auditor.declaring import plain_values
from auditor.errors import AuditError, NotAuditable, UsageError
from auditor.federated import parse_all
from auditor.options import ScanOptions
from auditor.pipeline.deep.planning import deep_attacks
from auditor.pipeline.documents.environment import environment_block
from auditor.pipeline.progress import Display, Silent
from auditor.pipeline.scan import WORK, choose_device, load_target, scan, seconds_of_work
from auditor.pipeline.threads import threads_for
from auditor.pipeline.time_plan import Prepared
from auditor.pipeline.training import loss_of, observe_all, trained
from auditor.pipeline.units import seconds_per_step
from auditor.probe import shipped_probes
from auditor.records import Ceiling, Target, record
from auditor.results.comparison import COMPARISON, ComparisonDocument, ComparisonTool
from auditor.results.encode import document

# Called with a model's name, the seed, and the results of each audit when it is done; returns where it lies, or "".
Keep = Callable[[str, int, Mapping[str, Any]], str]


@record
class Compared:
    """A comparison: `results` is the content of comparison.json, `audits` are results by model and seed."""

    results: Mapping[str, Any]
    audits: Mapping[tuple[str, int], Mapping[str, Any]] = field(default_factory=dict)


def compare(options: ScanOptions, models: ComparedModels, display: Display, keep: Keep = lambda *_: "") -> Compared:
    """Audit several models in the same way, and return them in order of leakage.

    Every model meets the same clips and attacks under every seed, with the same reference seconds: what --max-time
    allows one audit, else the most that any of the models would plan by itself.

    Raises
    ------
    UsageError, NotAuditable
        An option is wrong, or a model that was named cannot be audited; the line names it. A variant that cannot be
        built is no error: it is written as not measured.
    """
    started, clock = datetime.datetime.now(datetime.UTC), Ceiling()
    candidates = candidates_of(options, models)
    device = choose_device(options.device)
    seeds = tuple(range(options.seed, options.seed + models.seeds))
    loaded = []
    for one in candidates:
        display.stage(f"loading {one.name}")
        loaded.append(_loaded(one, device, seeds[0]))
    _check_enough(loaded)
    display.stage("planning")
    preset = PRESETS[options.preset]
    budget = _budget(options, preset, loaded, device)
    display.note(f"{len(candidates)} models, {len(seeds)} seeds: every audit may work {budget:.0f} s")
    measured = [_audited(one, preset, budget, seeds, device, display, keep) for one in loaded]
    blocks = ordered_blocks(measured)
    advice = recommendations(blocks)
    audits = {(m.candidate.name, seed): audit for m in measured for seed, audit in m.audits.items()}
    found = ComparisonDocument(
        schema=COMPARISON,
        kind="comparison",
        tool=ComparisonTool(
            name="fl-audit",
            version=__version__,
            started=started.isoformat(timespec="seconds"),
            seconds=clock.used,
            preset=preset.name,
            seeds=seeds,
            budget=budget,
            command=options.command,
            options={**options.as_json(), **_told(models)},
        ),
        baseline=measured[0].candidate.name,
        probes=tuple(p["name"] for p in next(iter(audits.values()))["probes"]),
        summary=summary(blocks, advice),
        candidates=blocks,
        recommendations=advice,
        gate=gate_of(blocks, options.fail_on),
        notes=remarks(measured, blocks, len(seeds)),
        environment=environment_block(device),
        measures=MEASURES,
    )
    return Compared(results=document(found), audits=audits)


def _loaded(one: Candidate, device: torch.device, seed: int) -> Measured:
    """Load a model; one that a change of another cannot make is told, and one that was named is an error."""
    try:
        return Measured(candidate=one, target=_target(one, device, seed))
    except (UsageError, NotAuditable) as error:
        if not one.derived:
            raise type(error)(f"{one.name}: {error.cause}", error.remedy) from error
        return Measured(candidate=one, skipped=str(error))


def _target(one: Candidate, device: torch.device, seed: int) -> Target:
    return load_target(replace(one.options, seed=seed), device, **one.variant)


def _check_enough(loaded: Sequence[Measured]) -> None:
    """Refuse where no variant of the baseline can be built."""
    if sum(one.target is not None for one in loaded) < 2:
        first = next(one for one in loaded if one.target is None)
        raise NotAuditable(f"no variant can be compared; {first.candidate.name}: {first.skipped}")


def _budget(options: ScanOptions, preset: Preset, loaded: Sequence[Measured], device: torch.device) -> float:
    """Return the reference seconds of every audit; those of --max-time where the least is done in it on a GPU."""
    if options.max_time is not None and device.type == "cpu":
        return WORK * options.max_time
    wanted = [
        _seconds_wanted(one.target, one.candidate.options, preset, device) for one in loaded if one.target is not None
    ]
    return max(wanted) if options.max_time is None else min(wanted)


def _seconds_wanted(target: Target, options: ScanOptions, preset: Preset, device: torch.device) -> float:
    """Return the reference seconds that an audit of the model by itself would plan: the preset's, and deep attacks."""
    parse_all(options.defence)
    context = trained(target, options, loss_of(options.loss, target))
    clips = len(options.probes) or preset.probes
    with threads_for(target):
        observed = observe_all(context, shipped_probes(target.input, 1))
        deep = deep_attacks(context, observed, preset)
        pace = seconds_per_step(context, observed[0])
    return seconds_of_work(options, preset, pace, deep, clips, Silent(), device)


def _audited(
    one: Measured,
    preset: Preset,
    budget: float,
    seeds: Sequence[int],
    device: torch.device,
    display: Display,
    keep: Keep,
) -> Measured:
    """Audit a loaded model under every seed; its weights are drawn anew where its source draws them."""
    if one.target is None:
        return one
    audits: dict[int, Mapping[str, Any]] = {}
    files: dict[int, str] = {}
    for seed in seeds:
        display.note(f"{one.candidate.name}, seed {seed}")
        # Without asking for them, nothing of an audit's own what-ifs: they compare protocols.
        given = one.candidate.options
        options = replace(
            given,
            seed=seed,
            what_if=given.what_if or False,
            malicious_server=given.malicious_server or False,
        )
        target = one.target if seed == seeds[0] else _target(one.candidate, device, seed)
        try:
            found = scan(options, display, Prepared(target=target, preset=preset, seconds=budget)).results
        except AuditError as error:
            raise type(error)(f"{one.candidate.name}: {error.cause}", error.remedy) from error
        audits[seed] = found
        files[seed] = keep(one.candidate.name, seed, found)
    return replace(one, audits=audits, files=files)


def _told(models: ComparedModels) -> dict[str, Any]:
    """Return what is compared, as the user gave it."""
    told = dict(plain_values(models))
    given = {"vary": models.vary, "change": models.change}
    return {**told, **{k: [f"{n}={','.join(map(str, values))}" for n, values in held] for k, held in given.items()}}
