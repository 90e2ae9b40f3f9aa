"""The document of a comparison: order, ties, and the recommendations that intervals allow."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from auditor.comparison.leakage import SAME_PIXELS_DB, less_effort
from auditor.comparison.measured import Measured, candidate_block
from auditor.comparison.ranking import clearly_more, in_order, ranks, ties
from auditor.errors import ExitCode
from auditor.results.comparison import CandidateBlock, ComparisonGate, MeanInterval, RecommendedBlock

# Few draws of weights say little about an architecture: with three seeds there is an interval over them.
_DRAWS = 3
MEASURES = {
    "leakage": "mean over clips and seeds of the dB by which the strongest attack without frames of the scene, whose "
    f"null control holds, beats the best blind guess; from 0 to what reaches {SAME_PIXELS_DB:.1f} dB, the rounding of "
    "8-bit pixels",
    "interval": "95%, Student's t over scenes and, with three seeds or more, over seeds, added in quadrature; for the "
    "given weights where these do not change with the seed",
    "exposed": "PSNR that linear analysis says the update determines",
    "determined": "layers whose whole input the equations of their own gradient can determine, slopes known",
    "operations": "floating-point operations of a forward pass on one clip, a multiplication and an addition are two",
    "ties": "models whose intervals overlap: nothing tells their order",
}


def ordered_blocks(measured: Sequence[Measured]) -> tuple[CandidateBlock, ...]:
    """Return what is written of every model, in order of leakage; the first measured one is the baseline."""
    baseline = measured[0]
    blocks = [candidate_block(one, baseline) for one in measured]
    blocks = [
        replace(b, not_compared="" if b.baseline else less_effort(tuple(one.audits.values()))) if one.audits else b
        for b, one in zip(blocks, measured, strict=True)
    ]
    placed = [_placed(block, blocks) if block.leakage is not None else block for block in blocks]
    return tuple(in_order(placed))


def _placed(block: CandidateBlock, blocks: Sequence[CandidateBlock]) -> CandidateBlock:
    first, last = ranks(block, blocks)
    return replace(block, first_rank=first, last_rank=last, ties=ties(block, blocks))


def recommendations(blocks: Sequence[CandidateBlock]) -> tuple[RecommendedBlock, ...]:
    """Return every model that leaks clearly less than the baseline and was attacked as hard, least leakage first."""
    base = next(b for b in blocks if b.baseline)
    return tuple(
        RecommendedBlock(take=b.name, text=_advice(b, base, b.difference), effect=b.difference)
        for b in reversed(blocks)
        if clearly_more(base.leakage, b.leakage) and not b.not_compared and b.difference is not None
    )


def _advice(block: CandidateBlock, base: CandidateBlock, effect: MeanInterval) -> str:
    what = f"Take {block.name} instead of {base.name}: the strongest attack's lead over a blind guess falls from "
    told = f"{_told(base.leakage)} to {_told(block.leakage)}, by {_told(_reversed(effect))} on the same clips and seeds"
    cost = f"{_count(block.parameters)} parameters instead of {_count(base.parameters)}"
    if block.operations is not None and base.operations is not None:
        cost += f", {_count(block.operations)} operations a clip instead of {_count(base.operations)}"
    verdict = f"Its verdict by itself is {block.word}."
    return f"{what}{told}; {cost}. {verdict}{''.join(f' But {note}.' for note in block.notes)}"


def _reversed(effect: MeanInterval) -> MeanInterval:
    low, high = (None if v is None else -v for v in (effect.high, effect.low))
    return replace(effect, mean=-effect.mean, low=low, high=high)


def _told(found: MeanInterval | None) -> str:
    if found is None:
        return "nothing measured"
    between = "" if found.low is None or found.high is None else f" ({found.low:.1f} to {found.high:.1f})"
    return f"{found.mean:.1f} dB{between}"


def _count(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def summary(blocks: Sequence[CandidateBlock], advice: Sequence[RecommendedBlock]) -> str:
    """Return the order in a sentence, ties as ties, and whether anything is recommended."""
    measured = [b for b in blocks if b.leakage is not None]
    if len(measured) < 2:
        return "Fewer than two models were measured: there is nothing to compare."
    order = _order(measured)
    base = next(b for b in measured if b.baseline)
    if advice:
        told = f"{advice[0].take} leaks clearly less than the baseline {base.name}."
    elif any(clearly_more(base.leakage, b.leakage) for b in measured):
        told = "Nothing is recommended: what leaks clearly less was attacked less."
    else:
        told = f"Nothing is recommended: no model leaks clearly less than the baseline {base.name}."
    return f"By leakage, most first: {order}. {told}"


def _order(measured: Sequence[CandidateBlock]) -> str:
    """Join the names in order by > where one leaks clearly more than the next, and by ~ where nothing tells."""
    parts = [measured[0].name]
    for before, block in pairwise(measured):
        parts.append(f"{'>' if clearly_more(before.leakage, block.leakage) else '~'} {block.name}")
    return " ".join(parts)


def gate_of(blocks: Sequence[CandidateBlock], fail_on: str) -> ComparisonGate:
    """Return the exit code, as a scan's: that of the worst audit, and 4 where a model could not be measured."""
    codes = [(run.exit_code, b.name) for b in blocks for run in b.runs]
    failed = next((name for code, name in codes if code == ExitCode.GATE_FAILED), None)
    unclear = next((name for code, name in codes if code == ExitCode.INCONCLUSIVE), None)
    missing = next((b.name for b in blocks if not b.runs), None)
    if failed is not None:
        return ComparisonGate(fail_on=fail_on, exit_code=int(ExitCode.GATE_FAILED), reason=f"{failed} fails the gate")
    if unclear is not None or missing is not None:
        reason = f"the audit of {unclear} cannot tell" if unclear is not None else f"{missing} was not measured"
        return ComparisonGate(fail_on=fail_on, exit_code=int(ExitCode.INCONCLUSIVE), reason=reason)
    return ComparisonGate(fail_on=fail_on, exit_code=int(ExitCode.GATE_SATISFIED), reason="no model fails the gate")


def remarks(measured: Sequence[Measured], blocks: Sequence[CandidateBlock], seeds: int) -> tuple[str, ...]:
    """Return what weakens the whole comparison, each as a sentence."""
    found = []
    if any(b.leakage is not None and b.leakage.low is None for b in blocks):
        found.append(
            "Fewer than three clips of different scenes, and fewer than three seeds: there are no intervals, and every "
            "order is a tie."
        )
    drawn = [b.name for b in blocks if "draw" in b.weights]
    if drawn and seeds < _DRAWS:
        found.append(
            f"{drawn[0]} may draw its weights, and fewer than three say little of a network; give --seeds {_DRAWS}."
        )
    sources = [(m.candidate.options.model, m.candidate.options.arg) for m in measured]
    twice = next(
        (m for i, m in enumerate(measured) if sources[i] in sources[:i] and not m.candidate.variant.get("change")), None
    )
    if twice is not None:
        found.append(
            f"{twice.candidate.name} is the same source given twice: it must tie, and is a null of this comparison."
        )
    return tuple(found)
