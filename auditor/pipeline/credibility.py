"""What makes an attack's result credible: a run started at the truth, and the score along the way."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from auditor.attack import LEAST_STEPS, Attack, GivenClips, GradientMatching, as_sent, distance
from auditor.pipeline.context import Context, Observed
from auditor.pipeline.pairing import own_clip
from auditor.pipeline.run_attack import run_attack
from auditor.records import Budget, Clips, Reconstruction, Skipped, Trace, View
from auditor.results.attempts import Diagnosis, Point, TruthStarted
from auditor.score import Evidence, conclude, psnr

# Moments at which the iterates of a search are kept for the budget curve.
CHECKPOINTS = 6
# The truth-started run settles within half the steps of the attack that it explains.
_SHARE = 0.5
# Space-time modes give a clip back at 34 dB and more, an untrained generator at 10 dB.
_STANDS_FOR_DB = 25.0
# No PSNR is larger than this: iterates are kept in half precision.
_MOST_DB = 70.0


def budget_curve(observed: Observed, made: Reconstruction) -> tuple[Point, ...]:
    """Score the clips that a search kept on its way; empty for closed forms."""
    return tuple(
        Point(
            step=kept.step,
            seconds=kept.seconds,
            objective=kept.objective,
            psnr=_psnr(observed, replace(made, clips=kept.clips.float())),
        )
        for kept in made.checkpoints
    )


def diagnose(
    context: Context,
    observed: Observed,
    attack: Attack,
    view: View,
    made: Reconstruction,
    budget: Budget,
    *,
    exact: bool,
    exposure: float | None,
) -> Diagnosis:
    """Start the same search at the truth, within `budget`, and say why the attack ended where it did."""
    # The order in which a FedAvg client takes its clips is its own; what that hides from an attacker shows below.
    client = context.client if context.protocol.algorithm == "FedSGD" else context.client_of(observed.probe)
    simulated = client(observed.clips, client.targets(observed.labels))
    sent = dict(observed.update.gradients)
    at_truth = distance(_under_defences(context, observed, simulated), sent)
    knowing = replace(view, knowledge=replace(view.knowledge, labels=observed.labels))
    own = attack.measure(knowing, observed.clips, observed.labels)
    right = sorted(map(str, made.labels)) == sorted(map(str, observed.labels))
    truth: TruthStarted | str = "the clip was recovered"
    if not exact:
        truth = _start_at_truth(observed, attack, knowing, made, budget)
    ran = truth if isinstance(truth, TruthStarted) else None
    conclusion = conclude(
        Evidence(
            psnr=_psnr(observed, made),
            objective=made.objective,
            outcome=made.outcome,
            exact=exact,
            labels_right=right,
            at_truth=at_truth,
            truth_psnr=None if ran is None else ran.psnr,
            truth_objective=None if ran is None else ran.objective,
            exposure=exposure,
        )
    )
    return Diagnosis(
        conclusion=conclusion,
        update_at_truth=at_truth,
        objective_at_truth=own,
        labels_right=right,
        truth_started=ran,
        exposure=exposure,
        because=truth if isinstance(truth, str) else "",
    )


def _under_defences(context: Context, observed: Observed, simulated: dict[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the client's simulated update as it would be sent: with its own draws, which no attacker can repeat."""
    if any(d.effect in ("noise", "mask") for d in context.client.defences):
        client = context.client_of(observed.probe)
        return client.update(observed.clips, client.targets(observed.labels)).gradients
    return as_sent(context.client.defences, simulated, observed.update.gradients)


def _start_at_truth(
    observed: Observed, attack: Attack, knowing: View, made: Reconstruction, budget: Budget
) -> TruthStarted | str:
    """Run the same search from the truth, knowing the true labels.

    Its first steps are as large as the attack's own: they throw the clip about as far from the truth as the objective
    lets it go, and what comes back is what objective and priors determine together. Smaller steps would leave what
    the update does not determine as it was, and call it known.
    """
    if not isinstance(attack, GradientMatching):
        return "the attack is no search that could start elsewhere"
    truth = observed.clips.detach()
    if not _representable(attack, truth):
        return "what the attack moves cannot stand for given clips, so it cannot be started at one"
    steps = max(LEAST_STEPS, round(_SHARE * made.steps / max(1, len(made.restart_objectives))))
    result = run_attack(_from(attack, truth), knowing, replace(budget, steps=steps, checkpoints=CHECKPOINTS), seed=0)
    if isinstance(result, Skipped):
        return result.reason
    course = tuple((c.step, _psnr(observed, replace(made, clips=c.current.float()))) for c in result.checkpoints)
    last = _last(result.trace)
    if not course or last is None:
        return "the run from the truth diverged"
    return TruthStarted(
        psnr=course[-1][1], objective=last.objective, steps=result.steps, seconds=result.seconds, course=course
    )


def _from(attack: GradientMatching, truth: Clips) -> GradientMatching:
    """Return the same search started at the truth, by its first configuration and all modes at once: no halving."""
    return replace(
        attack,
        start=GivenClips(truth),
        restarts=1,
        configurations=tuple(configuration.onward() for configuration in attack.configurations[:1]),
        smooth_configurations=tuple(configuration.onward() for configuration in attack.smooth_configurations[:1]),
    )


def _representable(attack: GradientMatching, truth: Clips) -> bool:
    """Tell whether the attack's variables can be set to the truth: an untrained generator's weights cannot."""
    (configuration,) = attack.configurations[:1] or (attack.own_configuration,)
    with torch.no_grad():
        variables = configuration.onward().parametrisation.bind(truth)
        shown = variables.clips(variables.of(truth), 1.0)
    return float(psnr(truth.cpu(), shown.cpu())) >= _STANDS_FOR_DB


def _last(trace: Sequence[Trace]) -> Trace | None:
    return trace[-1] if trace else None


def _psnr(observed: Observed, made: Reconstruction) -> float:
    truth = observed.probe.clip.cpu()
    return min(float(psnr(truth, own_clip(observed, made))), _MOST_DB)
