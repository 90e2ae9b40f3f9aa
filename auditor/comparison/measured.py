"""One model's audits, and what is written of them."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from statistics import fmean
from typing import Any

from auditor.comparison.candidates import Candidate
from auditor.comparison.leakage import attacks_of, decibels, determined_of, leakage_of
from auditor.comparison.ranking import interval
from auditor.records import Target, record
from auditor.results.comparison import CandidateBlock, ClipLeakage, SeedRun, Word

# Worst first: what cannot be told may be as bad as anything.
WORDS: tuple[Word, ...] = ("FAIL", "INCONCLUSIVE", "WARN", "PASS")
# In notes of a model whose source draws weights.
_RANDOM = "The weights are random"


@record
class Measured:
    """A model of a comparison and its audits by seed; `skipped` says why there are none.

    `file` is where each audit lies. `target` is the model as it was loaded under the first seed.
    """

    candidate: Candidate
    target: Target | None = None
    audits: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    files: Mapping[int, str] = field(default_factory=dict)
    skipped: str = ""

    @property
    def clips(self) -> tuple[ClipLeakage, ...]:
        """What leaks of every clip under every seed."""
        return tuple(one for seed, audit in self.audits.items() for one in leakage_of(audit, seed))


def candidate_block(one: Measured, baseline: Measured) -> CandidateBlock:
    """Return what is written of a model, without its place among the others."""
    audits, target = tuple(one.audits.values()), one.target
    words = [audit["verdict"]["word"] for audit in audits]
    own = one is baseline
    step = None if target is None else target.step
    sent = audits[0]["model"]["parameters"]["sent_elements"] if audits else None
    return CandidateBlock(
        name=one.candidate.name,
        source=one.candidate.options.model or (target.source if target is not None else ""),
        change=one.candidate.change,
        baseline=own,
        skipped=one.skipped or None,
        weights=_weights(one),
        input=None if target is None else target.input,
        classes=None if target is None else target.classes,
        parameters=None if target is None else sum(p.numel() for p in target.parameters.values()),
        sent=sent,
        operations=None if step is None else step.operations,
        determined=determined_of(audits[0]) if audits else None,
        leakage=interval(one.clips),
        best=max((c.psnr for c in one.clips if c.psnr is not None), default=None),
        exposed=_exposed(audits),
        word=min(words, key=WORDS.index, default=None),
        first_rank=None,
        last_rank=None,
        ties=(),
        difference=None if own or not audits else interval(one.clips, baseline.clips),
        not_compared="",
        attacks=attacks_of(audits),
        clips=one.clips,
        runs=tuple(_run(seed, audit, one.files.get(seed, "")) for seed, audit in one.audits.items()),
        notes=_notes(one, baseline),
    )


def _run(seed: int, audit: Mapping[str, Any], file: str) -> SeedRun:
    return SeedRun(
        seed=seed,
        audit_id=audit["tool"]["audit_id"],
        sha256=audit["model"]["sha256"],
        word=audit["verdict"]["word"],
        exit_code=audit["verdict"]["exit_code"],
        exposed=_exposed([audit]),
        budget=audit["tool"]["budget"],
        work=audit["tool"]["work"],
        file=file,
    )


def _exposed(audits: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the mean PSNR that linear analysis says updates determine; None where it was not measured."""
    found = [decibels(a["exposure"]["all"]["psnr"]) for a in audits if a["exposure"]["all"] is not None]
    return fmean(found) if found else None


def _weights(one: Measured) -> str:
    """Say where the weights come from, by what loading said and by whether seeds gave different ones."""
    if one.target is None:
        return ""
    digests = {audit["model"]["sha256"] for audit in one.audits.values()}
    part = next((n for n in one.target.fidelity.notes if "parameters are from" in n), "")
    if len(digests) > 1:
        return f"{part or 'no weights file:'} {len(digests)} draws, one for each seed".strip()
    if part:
        return part
    if one.candidate.options.weights is not None:
        return "from the weights file"
    if any(note.startswith(_RANDOM) for note in one.target.fidelity.notes):
        return "random, one draw"
    if len(one.audits) > 1:
        return "as the source gives them, the same under every seed"
    return "as the factory gives them, one draw where it draws" if one.target.format == "pytorch" else "of the file"


def _notes(one: Measured, baseline: Measured) -> tuple[str, ...]:
    """Say what else differs from the baseline beside the network: then a difference has two causes."""
    a, b = one.target, baseline.target
    if one is baseline or a is None or b is None:
        return ()
    found = []
    if a.input.clip_shape != b.input.clip_shape:
        found.append(f"it reads clips of {_size(a)} where the baseline reads {_size(b)}: dB are of what each one reads")
    if a.classes != b.classes:
        found.append(f"it has {a.classes} classes where the baseline has {b.classes}: it learns another task")
    if a.fidelity.batchnorm != b.fidelity.batchnorm:
        found.append(f"BatchNorm: {a.fidelity.batchnorm}, in the baseline {b.fidelity.batchnorm}")
    if a.fidelity.upper_bound:
        found.append("its gradients are of another graph than clients train, an upper bound at best")
    return tuple(found)


def _size(target: Target) -> str:
    spec = target.input
    return f"{spec.frames}x{spec.channels}x{spec.height}x{spec.width}"
