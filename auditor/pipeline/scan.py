"""One audit, from a model file to results."""

import datetime
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from auditor.attack import PRESETS, Preset, work_a_second
from auditor.errors import UsageError
from auditor.exposure import Exposed
from auditor.federated import parse_all
from auditor.model import load, load_two_part
from auditor.options import ModelOptions, ScanOptions
from auditor.pipeline.captured.agreement import agreement, read_replay
from auditor.pipeline.context import Context, Observed
from auditor.pipeline.controls import failed, not_run, positive_controls, simulation_control
from auditor.pipeline.deep.feature_maps import feature_maps
from auditor.pipeline.deep.memory import available_bytes, too_large_to_expose
from auditor.pipeline.deep.planning import DeepAttack, deep_attacks, planned_seconds
from auditor.pipeline.deep.scaled_down import ScaledDown, broken, scaled_down, seconds_for_smaller
from auditor.pipeline.defended.exposed_update import expose_update
from auditor.pipeline.defended.privacy_claim import claim_of
from auditor.pipeline.defended.unmet_defences import left_out
from auditor.pipeline.diagnosis import diagnose_best
from auditor.pipeline.documents.audit import Audit, Gathered, assemble
from auditor.pipeline.enhancement import enhance_results, user_enhancers
from auditor.pipeline.findings import (
    blind_controls,
    label_finding,
    make_findings,
    null_controls,
    seconds_to_score,
)
from auditor.pipeline.identity import recognised
from auditor.pipeline.layerwise.study_layers import LayerStudy, single_layers_skipped, study_layers
from auditor.pipeline.malicious import malicious_ahead, malicious_server
from auditor.pipeline.membership import ask_membership
from auditor.pipeline.planted.manipulation import MaliciousServer
from auditor.pipeline.planted.own_net_control import own_net_control
from auditor.pipeline.progress import Display
from auditor.pipeline.references import BLANK, each_copied, references_from
from auditor.pipeline.threads import threads_for
from auditor.pipeline.time_plan import Prepared, TimePlan
from auditor.pipeline.training import loss_of, observe_all, trained
from auditor.pipeline.units import run_units, seconds_per_step
from auditor.pipeline.what_if import Variant, strongest, variants
from auditor.pipeline.workers import Task, begin_early, suit_workers
from auditor.probe import Galleries, canary, shipped_probes, user_probes
from auditor.records import Ceiling, Clips, Clock, InputSpec, Probe, Skipped, Target
from auditor.records.arithmetic import compute_exactly
from auditor.records.free_memory import keep_free_memory, return_free_memory
from auditor.results.audit import Control
from auditor.score import FaceRecogniser, Lpips

# For the progress that is shown: controls take about five seconds on an idle core.
_CONTROL_SECONDS = 6.0
# Steps that the exposure analysis costs before it can tell how long it takes.
STEPS_TO_EXPOSE = 3.0
# Presets' budgets that exposure takes its share of at most: what comes on top is for deep attacks.
MOST_FOR_EXPOSURE = 2.0
# Of the preset's budget: what deep attacks take beyond that is told before they begin.
_WORTH_SAYING = 0.1

# Share of --max-time that is planned as work: the reference machine is busy already, and loading takes its time too.
WORK = 0.9
# Of the work: what is left at least when attacks begin, after controls and exposure.
_LEFT = 0.8
# Floating-point operations of a forward pass beyond which two clips are attacked unless the user gave some: every clip
# costs its update, and its residual under every closed form, and each of these is minutes of a core.
_MOST_FOR_ALL_CLIPS, _FEW_CLIPS = 3e11, 2

_NO_WHAT_IF = Skipped(
    stage="what-if",
    what="what-if variants",
    because="out-of-budget",
    reason="too little work was left for them",
    remedy="give more --max-time",
)


def scan(options: ScanOptions, display: Display, prepared: Prepared | None = None) -> Audit:
    """Audit a model and return its results; `prepared` is the model with its effort, where others stand beside it.

    Raises
    ------
    UsageError, NotAuditable
        See `errors`.
    """
    preset, ceiling = PRESETS[options.preset], Ceiling(options.max_time)
    parse_all(options.defence)
    claim_of(options.dp_claim, options.defence)
    replay = read_replay(options.replay)
    started = datetime.datetime.now(datetime.UTC)
    device = choose_device(options.device)
    lpips = None if options.lpips is None else Lpips(options.lpips)
    recogniser = FaceRecogniser() if options.faces else None
    users = user_enhancers(options.sr)
    display.stage("loading the model")
    keep_free_memory()
    target = load_target(options, device) if prepared is None else prepared.target
    return_free_memory()
    display.stage("making probes")
    preset = for_size(preset, target, options, display) if prepared is None else prepared.preset
    probes = probes_of(options, preset, target.input, () if prepared is None else prepared.clips)
    references = references_from(options.reference, target.input)
    if references.several:
        preset = preset.with_several_references()
    context = trained(target, options, loss_of(options.loss, target))
    suit_workers(target)
    replayed = None if replay is None or options.replay is None else agreement(replay, options.replay, context)
    times = TimePlan.of(
        preset, what_if=options.what_if, malicious=options.malicious_server, faces=options.faces, layers=options.layers
    )
    memory = available_bytes(device)
    with threads_for(target):
        observed = observe_all(context, probes)
        deep = deep_attacks(context, observed, preset)
        seconds = None if prepared is None else prepared.seconds
        pace = seconds_per_step(context, observed[0])
        clock = Clock(seconds or seconds_of_work(options, preset, pace, deep, len(probes) - 1, display, device))
        galleries = Galleries(target.input, probes)
        blind = galleries[probes[0].name]
        variance = pixel_variance(blind)
        scoring = seconds_to_score(observed[0].probe, lpips)
        server: tuple[Task, ...] = ()
        if times.malicious and options.max_time is None:
            server = malicious_ahead(context, probes, blind, times.malicious * _LEFT * clock.left, pace)
        server_attacked = begin_early(server)
        display.stage("controls")
        controls = _controls(context, observed, preset, times.controls * clock.left, display, ceiling)
        without_form = left_out(context, observed[0], preset)
        display.stage("exposure")
        share = times.exposure * min(clock.left, MOST_FOR_EXPOSURE * preset.seconds)
        exposed = (
            too_large_to_expose(context, memory)
            or ceiling.too_late("expose", "mode exposure", share)
            or _exposure(context, observed[0], variance, share, pace, display)
        )
        display.stage("frame membership")
        membership = ceiling.too_late("membership", "frame membership") or ask_membership(
            context, observed, Clock(times.membership * clock.left), pace
        )
        display.stage("attacks")
        left = clock.left
        recognising = times.seconds_to_recognise(left)
        share = times.seconds_to_attack(left)
        attacking = Clock(share - seconds_for_smaller(target, deep, share))
        ran, skipped = run_units(
            context, observed, preset, attacking, pace, scoring, display, references, deep,
            ceiling,
        )  # fmt: skip
        display.stage("scoring")
        findings = make_findings(context, observed, ran, galleries, references, lpips, display)
        maps = feature_maps(context, observed, ran)
        smaller: ScaledDown | Skipped | None = None
        if any(isinstance(one, DeepAttack) for one in deep) and not broken(findings):
            display.stage("smaller clips")
            unused = share - attacking.used
            smaller = scaled_down(
                context, preset, partial(probes_of, options, preset), unused, scoring, display, ceiling
            )
    held = [(f.attack, r.observed.probe) for f in findings if f.reference for r in f.results]
    diagnosed = None
    if preset.diagnose and clock.left > 0.0 and not ceiling.too_late("diagnosis", "search from the truth"):
        display.stage("diagnosis")
        share = times.seconds_to_diagnose(clock.left)
        measured = exposed if isinstance(exposed, Exposed) else None
        with threads_for(target):
            diagnosed = diagnose_best(context, observed, findings, measured, share, display)
    display.stage("enhancement")
    share = times.seconds_to_enhance(clock.left, recognising)
    shown = findings if prepared is None else ()
    enhanced, not_enhanced = enhance_results(shown, galleries, share, display, users, ceiling, device)
    identities = recognised(findings, enhanced, recogniser, clock.left, display, ceiling)
    changes: tuple[Variant, ...] = ()
    if times.what_if and clock.left > 0.0:
        display.stage("what if")
        with threads_for(target):
            share = times.seconds_for_what_if(clock.left)
            rivals = strongest(findings)
            measured = exposed if isinstance(exposed, Exposed) else None
            changes = variants(
                context, probes, blind, variance, share, pace, display, rivals, preset.steps, ceiling, measured
            )
    single: LayerStudy | Skipped | None = None
    if times.layers:
        display.stage("single layers")
        with threads_for(target):
            share = times.seconds_for_layers(clock.left, clock.seconds)
            measured = exposed if isinstance(exposed, Exposed) else None
            single = study_layers(
                context, observed, findings, galleries, preset, measured, options.layers, share, pace, display,
                ceiling, on_top=bool(options.layers) and options.max_time is None,
            )  # fmt: skip
    manipulated: MaliciousServer | None = None
    if times.malicious:
        display.stage("what if the server were malicious")
        server_attacked()
        with threads_for(target):
            manipulated = malicious_server(context, probes, blind, clock.left, pace, display, ceiling)
    return assemble(
        Gathered(
            options=options,
            preset=preset,
            started=started,
            clock=clock,
            ceiling=ceiling,
            context=context,
            observed=observed,
            controls=(*controls, *null_controls(findings), *blind_controls(findings)),
            failed=failed(controls),
            left_out=without_form,
            claim=claim_of(options.dp_claim, options.defence),
            replayed=replayed,
            untested=not_run(controls),
            exposed=exposed if isinstance(exposed, Exposed) else None,
            findings=findings,
            maps=maps,
            smaller=smaller,
            diagnosed=diagnosed,
            labels=label_finding(observed, target.classes, context.client.loss.kind),
            enhanced=enhanced,
            identities=identities,
            variants=changes,
            single=single,
            malicious=manipulated,
            membership=membership,
            references=references,
            copied=each_copied(references, held, galleries),
            skipped=(
                *skipped,
                *([membership] if isinstance(membership, Skipped) else []),
                *not_enhanced,
                *([exposed] if isinstance(exposed, Skipped) else []),
                *([smaller] if isinstance(smaller, Skipped) else []),
                *single_layers_skipped(single),
                *([_NO_WHAT_IF] if times.what_if and not changes else []),
            ),
            device=device,
            pace=pace,
        )
    )


def choose_device(name: str) -> torch.device:
    """Return the device, told how to compute; `auto` is a GPU where there is one.

    Raises
    ------
    UsageError
        The device does not exist here, or has no float64, which 26 of 34 attacks need (Apple's MPS).
    """
    compute_exactly()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {name} cannot be used here", "use --device cpu, or auto") from error
    try:
        torch.zeros(1, device=device, dtype=torch.float64)
    except TypeError as error:
        raise UsageError(f"--device {name} has no float64, which most attacks need", "use --device cpu") from error
    return device


def pixel_variance(clips: Clips) -> float:
    """Mean square deviation of pixels from the gallery's mean clip: what a blind guess leaves unexplained."""
    return float((clips - clips.mean(0, keepdim=True)).square().mean())


def load_target(options: ModelOptions, device: torch.device, **variant: Any) -> Target:
    """Load the model as the options say; `variant` are further fields of `LoadOptions`, for a model of one part."""
    choices = {**options.reading(), "onnx_ops": options.onnx_ops, "device": device, **variant}
    if options.extractor is not None and options.head is not None:
        return load_two_part(
            options.extractor,
            options.head,
            extractor_weights=options.extractor_weights,
            head_weights=options.head_weights,
            join=options.join,
            **choices,
        )
    return load(options.model, weights=options.weights, **choices)


def for_size(preset: Preset, target: Target, options: ScanOptions, display: Display) -> Preset:
    """Return the preset with two clips where a network computes very much; each is the other's null control."""
    large = target.step is not None and target.step.operations > _MOST_FOR_ALL_CLIPS
    if not large or options.probes or preset.probes <= _FEW_CLIPS:
        return preset
    display.note(f"a pass of this network computes much: {_FEW_CLIPS} clips are attacked, not {preset.probes}")
    return replace(preset, probes=_FEW_CLIPS)


def probes_of(
    options: ScanOptions, preset: Preset, spec: InputSpec, others: tuple[Probe, ...] = ()
) -> tuple[Probe, ...]:
    """The user's clips if given, else the others or shipped ones, and a canary in any case."""
    if options.probes:
        clips: tuple[Probe, ...] = tuple(p for path in options.probes for p in user_probes(path, spec))
    else:
        clips = others or shipped_probes(spec, preset.probes)
    for probe in clips:
        check_scene(probe)
    return _unique((*clips, canary(spec, options.seed)))


def check_scene(probe: Probe) -> None:
    """Raise UsageError if a clip shows nothing that could be recognised."""
    if float(probe.clip.std()) < BLANK:
        raise UsageError(f"the clip {probe.name} shows a single colour", "give clips of a scene: this one has none")


def _unique(probes: Sequence[Probe]) -> tuple[Probe, ...]:
    """Give clips of the same name different ones."""
    seen: dict[str, int] = {}
    named = []
    for probe in probes:
        count = seen.get(probe.name, 0)
        seen[probe.name] = count + 1
        named.append(replace(probe, name=f"{probe.name} ({count + 1})") if count else probe)
    return tuple(named)


def seconds_of_work(
    options: ScanOptions,
    preset: Preset,
    pace: float,
    deep: Sequence[DeepAttack | Skipped],
    clips: int,
    display: Display,
    device: torch.device,
) -> float:
    """Return the budget: of --max-time on this device, else the preset's, which is the same work on all.

    Deep attacks come on top of a preset's as far as it allows; more than usual is told first.
    """
    if options.max_time is not None:
        return WORK * work_a_second(device, pace) * options.max_time
    extra = planned_seconds(deep, clips)
    limit = min(preset.seconds_for(pace) + extra, preset.most_seconds)
    names = ", ".join(one.attack.name for one in deep if isinstance(one, DeepAttack))
    if extra > _WORTH_SAYING * preset.seconds:
        display.note(f"{names}: up to {extra:.0f} s of work on {clips} clips; this audit has {limit:.0f} s of work")
    return limit


def _controls(
    context: Context,
    observed: Sequence[Observed],
    preset: Preset,
    seconds: float,
    display: Display,
    ceiling: Ceiling,
) -> tuple[Control, ...]:
    with display.unit("positive controls", _CONTROL_SECONDS) as progress:
        planted = positive_controls(context.device, preset.attacks, seconds, progress, ceiling)
        simulated = simulation_control(context, observed[0])
    return (*planted, simulated, own_net_control(context, observed[0], preset.attacks, display))


def _exposure(
    context: Context, observed: Observed, variance: float, seconds: float, pace: float, display: Display
) -> Exposed | Skipped:
    if context.target.fidelity.blind:
        return Skipped(
            stage="expose",
            what="mode exposure",
            because="not-applicable",
            reason="it follows slopes, and cannot see through what forward rounds or cuts",
            remedy="",
        )
    if STEPS_TO_EXPOSE * pace > seconds:
        return Skipped(
            stage="expose",
            what="mode exposure",
            because="out-of-budget",
            reason=f"a step is {pace:.2g} s of work, and the share of exposure is {max(0.0, seconds):.0f} s",
            remedy="give more --max-time",
        )
    with display.unit("mode exposure", seconds) as progress:
        return expose_update(context, observed, variance, seconds, progress)
