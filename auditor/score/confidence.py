"""Confidence in the verdict: a second axis beside severity."""

from typing import Literal

from auditor.records import Fidelity, Unaccounted
from auditor.results.audit import Confidence
from auditor.results.updates.replay import ReplayAgreement

# Constants of which nothing is known: below a thousandth they are interpolation tables and offsets; above a twentieth
# they may be a layer that trains, whose gradient would be missing.
DOUBTFUL, MOST_UNACCOUNTED = 0.001, 0.05


def confidence(
    fidelity: Fidelity,
    *,
    failed_controls: tuple[str, ...],
    untested_controls: tuple[str, ...],
    probes: int,
    seeds: int,
    out_of_budget: tuple[str, ...],
    exact: bool,
    unadapted: tuple[str, ...] = (),
    replayed: ReplayAgreement | None = None,
) -> Confidence:
    """Lower the confidence one level per kind of doubt; an EXACT finding does not depend on seeds or budget.

    `unadapted` are attacks that would apply, and have no form for a defence. Where an update that was `replayed`
    differs, another client is audited than the one that trains: a grave doubt. Agreement is named, and takes no other
    doubt away.
    """
    doubts: list[str] = []
    grave: list[str] = []
    if failed_controls:
        grave.append("a control failed")
    grave += fidelity.blind
    if replayed is not None and not replayed.agrees:
        grave.append(replayed.sentence.rstrip("."))
    if untested_controls:
        doubts.append(f"{len(untested_controls)} positive controls could not run in the time there was")
    if fidelity.upper_bound:
        doubts.append("the file holds another graph than clients train: its gradients are an upper bound at best")
    if fidelity.batchnorm == "maybe folded":
        doubts.append("BatchNorm may have been merged into other weights: the file does not tell")
    if fidelity.missing or fidelity.gradient_check is None:
        doubts.append(_missing(fidelity))
    doubts += _unaccounted(fidelity.unaccounted)
    if fidelity.double_backward is False:
        doubts.append("the model has no second derivatives: attacks that need them did not run")
    if not exact:
        if out_of_budget:
            doubts.append(f"{len(out_of_budget)} attack runs were cut short or left out by the budget")
        if unadapted:
            doubts.append(f"no form for the defences is known of {', '.join(unadapted)}: one may find more")
        if seeds < 3:
            doubts.append(f"{seeds} seed{'s' if seeds > 1 else ''}; three or more show the spread")
        if probes < 5:
            clips = "no probe clip was attacked" if not probes else f"{probes} probe clip{'s' if probes != 1 else ''}"
            doubts.append(f"{clips}; five or more show the reach")
    level: Literal["high", "medium", "low"] = "low" if grave or len(doubts) > 2 else "medium" if doubts else "high"
    fine = ["controls held and the import is faithful"]
    if exact:
        fine.append("an exact recovery depends on neither seeds nor budget")
    agreed = [replayed.sentence.rstrip(".")] if replayed is not None and replayed.agrees else []
    return Confidence(level=level, reasons=tuple((grave + doubts or fine) + agreed))


def unaccounted_for(fidelity: Fidelity) -> tuple[str, ...]:
    """Return what of the file or forward pass hides so much that nothing found means nothing, each as a reason."""
    counted = fidelity.unaccounted
    reasons = ["slopes do not reach all that an update depends on"] if fidelity.blind else []
    if counted is not None and counted.share > MOST_UNACCOUNTED:
        reasons.append(_uncounted(counted))
    return tuple(reasons)


def _unaccounted(counted: Unaccounted | None) -> list[str]:
    if counted is None:
        return []
    doubts = [_uncounted(counted)] if counted.share > DOUBTFUL else []
    if counted.assumed:
        doubts.append(f"assumed: {', '.join(counted.assumed)}")
    return doubts


def _uncounted(counted: Unaccounted) -> str:
    return (
        f"{counted.numbers - counted.fixed:,} of the model's {counted.of_numbers:,} float numbers are not accounted for"
    )


def _missing(fidelity: Fidelity) -> str:
    """Say which check of the import was not made, or what the import cannot see: the first, and how many more."""
    said = fidelity.missing or ("The gradient was not checked against finite differences.",)
    more = f" (and {len(said) - 1} more)" if len(said) > 1 else ""
    return said[0].rstrip(".") + more
