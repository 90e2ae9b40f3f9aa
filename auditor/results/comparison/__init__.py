"""comparison.json: several models under the same attacks, ordered by what leaks (docs/compare.md)."""

from collections.abc import Mapping
from typing import Literal

from auditor.results.audit import Options, Tenth
from auditor.results.declare import Decibel, LongName, Name, Paragraph, Sentence, Share, derived, record
from auditor.results.model import Environment, InputSpec

COMPARISON: Literal["fl-audit/comparison/1"] = "fl-audit/comparison/1"
Word = Literal["FAIL", "WARN", "PASS", "INCONCLUSIVE"]


@record
class ComparisonTool:
    """What made the comparison, when and how; `budget` is what every audit may work, in reference seconds."""

    name: str
    version: str
    started: str
    seconds: Tenth
    preset: str
    seeds: tuple[int, ...]
    budget: Tenth
    command: tuple[LongName, ...]
    options: Options


@record
class MeanInterval:
    """A mean in dB with its 95% interval over scenes and seeds; None where there are too few of either.

    `scenes` and `seeds` are those that the interval is over, `runs` the reconstructions behind it.
    """

    mean: Decibel
    low: Decibel | None
    high: Decibel | None
    scenes: int
    seeds: int
    runs: int


@record
class ClipLeakage:
    """What the strongest attack that counts recovered of one clip under one seed, dB.

    `leakage` is how far that lies above the best blind guess, in [0, 58.9]; `attack` and `psnr` are None where no
    attack counts, and the blind guess is all that an attacker has.
    """

    clip: Name
    seed: int
    attack: Name | None
    psnr: Decibel | None
    leakage: Decibel


@record
class AttackLeakage:
    """What one attack recovered of a model: mean dB above the best blind guess over clips and seeds, and its best."""

    attack: Name
    gain: Decibel
    best: Decibel
    runs: int
    counts: bool


@record
class SeedRun:
    """One audit: of one model, under one seed. `file` is where it lies, beside the comparison."""

    seed: int
    audit_id: Name
    sha256: str
    word: Word
    exit_code: int
    exposed: Decibel | None
    budget: Tenth
    work: Tenth
    file: Name


@record
class DeterminedLayers:
    """Of how many layers the equations of their own gradients can determine the whole input, of how many counted."""

    layers: int
    of: int

    @derived
    def share(self) -> Share:
        """In [0, 1]."""
        return self.layers / self.of


@record
class CandidateBlock:
    """One model and what leaks.

    Attributes
    ----------
    change
        What sets it apart from the baseline, in a few words; empty for a file of its own.
    weights
        Where its weights come from, and whether every seed draws them anew.
    parameters, sent, operations
        Numbers in parameters, those that a client sends, and floating-point operations of one forward pass on one clip.
    leakage
        Mean over clips and seeds of how far the strongest attack lies above the best blind guess; None where nothing
        was measured, and `skipped` says why.
    best, exposed
        Largest PSNR that was demonstrated, and the mean that linear analysis says the update determines; dB.
    word
        The worst verdict of its audits.
    first_rank, last_rank
        The ranks, 1 leaks most, that its interval allows; `ties` names the models whose intervals overlap with its own.
    difference
        To the baseline, on the same clips and seeds.
    not_compared
        Why nothing is recommended by this difference; empty where that is no reason.
    """

    name: Name
    source: LongName
    change: LongName
    baseline: bool
    skipped: Sentence | None
    weights: Sentence
    input: InputSpec | None
    classes: int | None
    parameters: int | None
    sent: int | None
    operations: int | None
    determined: DeterminedLayers | None
    leakage: MeanInterval | None
    best: Decibel | None
    exposed: Decibel | None
    word: Word | None
    first_rank: int | None
    last_rank: int | None
    ties: tuple[Name, ...]
    difference: MeanInterval | None
    not_compared: LongName
    attacks: tuple[AttackLeakage, ...]
    clips: tuple[ClipLeakage, ...]
    runs: tuple[SeedRun, ...]
    notes: tuple[LongName, ...]


@record
class RecommendedBlock:
    """A model that leaks clearly less than the baseline, with the measured effect in dB."""

    take: Name
    text: Paragraph
    effect: MeanInterval


@record
class ComparisonGate:
    """What a pipeline was told to stop at, and the exit code of the comparison."""

    fail_on: str
    exit_code: int
    reason: Sentence


@record
class ComparisonDocument:
    """Several models under the same probes, attacks and budget; `candidates` are in order of leakage, most first.

    `summary` says the order in a sentence, ties as ties. Models that were not measured come last.
    """

    schema: Literal["fl-audit/comparison/1"]
    kind: Literal["comparison"]
    tool: ComparisonTool
    baseline: Name
    probes: tuple[Name, ...]
    summary: Paragraph
    candidates: tuple[CandidateBlock, ...]
    recommendations: tuple[RecommendedBlock, ...]
    gate: ComparisonGate
    notes: tuple[Sentence, ...]
    environment: Environment
    measures: Mapping[str, Sentence]
