"""What `fl-audit replay --json` prints: an update that was sent beside the one that a simulated client sends."""

from typing import Literal

from auditor.results.attack import AttackProtocol
from auditor.results.declare import Decibel, Label, LongName, Measured, Name, Paragraph, Seconds, Sentence, record
from auditor.results.model import AttackedModel, Environment
from auditor.results.updates.captured import CapturedBlock

REPLAY: Literal["fl-audit/replay/1"] = "fl-audit/replay/1"


@record
class ReplayTool:
    """What compared the two updates."""

    name: str
    version: str
    started: str
    seconds: Seconds
    command: tuple[LongName, ...]
    seed: int


@record
class ReplayedBlock:
    """The clip that the client trained on, what it was trained as, and how that is known."""

    name: Name
    sha256: str
    label: Label
    label_from: Sentence


@record
class ComparedTensor:
    """One parameter of both updates.

    Attributes
    ----------
    sent, simulated
        Norms; `sent` is 0 for a parameter that was not sent.
    difference
        Norm of the difference, relative to that of what was sent; infinite where nothing was.
    cosine
        In [-1, 1]; NaN where one of the two is zero.
    """

    name: LongName
    sent: Measured
    simulated: Measured
    difference: Decibel
    cosine: Measured


@record
class ExplanationBlock:
    """One supposition about the client, fitted to what it sent.

    Attributes
    ----------
    cause
        A word that stays the same, such as `learning-rate`.
    remaining
        What of the update is not explained under it, relative to its norm: 0 explains everything.
    value
        What was fitted; None where there is nothing to fit.
    """

    cause: str
    text: Sentence
    remaining: Decibel
    value: Measured | None


@record
class ReplayAgreement:
    """What a replay says of an audit: whether the client that is simulated sends what a real one sent.

    Attributes
    ----------
    difference
        Relative to the norm of what was sent; at most `tolerance` where it `agrees`.
    explained
        Whether `cause`, the supposition that leaves least, leaves less than half of the difference.
    """

    file: Name
    clip: Name
    agrees: bool
    difference: Decibel
    tolerance: float
    explained: bool
    cause: Name
    sentence: Paragraph


@record
class ReplayDocument:
    """An update that a client sent for a known clip, beside the one that the audit simulates.

    Attributes
    ----------
    agrees
        Whether `difference` is at most `tolerance`.
    difference
        ||sent - simulated|| / ||sent|| over all that the client was said to send.
    explanations
        What may explain the difference, the best first; empty where the two agree.
    explained
        Whether the best of them leaves less than half of the difference.
    untried
        What was not tried, and why.
    """

    schema: Literal["fl-audit/replay/1"]
    tool: ReplayTool
    model: AttackedModel
    protocol: AttackProtocol
    update: CapturedBlock
    clip: ReplayedBlock
    agrees: bool
    tolerance: float
    difference: Decibel
    cosine: Measured
    tensors: tuple[ComparedTensor, ...]
    explanations: tuple[ExplanationBlock, ...]
    explained: bool
    untried: tuple[Sentence, ...]
    environment: Environment
