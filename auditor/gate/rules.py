"""Every rule that an alert can name: what it means, why it matters, and what to do."""

from collections.abc import Mapping
from dataclasses import dataclass

from auditor.errors import UsageError
from auditor.text import did_you_mean, printable


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What an alert says.

    Attributes
    ----------
    name
        Stable identifier.
    short
        One line.
    meaning, why
        What was found, and what follows for the people in the clips.
    remedies
        What changes it, the most effective first.
    evidence
        What the number rests on, and when the alert is not raised.
    level
        As SARIF names it where an alert has no severity of its own.
    security_severity
        For GitHub, which sorts by the rule's number and not by the alert's: the most that the rule's alerts can have.
    """

    name: str
    short: str
    meaning: str
    why: str
    remedies: tuple[str, ...]
    evidence: str
    level: str = "note"
    security_severity: float = 0.0


RULES: tuple[Rule, ...] = (
    Rule(
        name="clip-reconstruction",
        short="A training clip can be rebuilt from one update",
        meaning="An attack that saw one client's update and the public model rebuilt a clip, or enough of it to find "
        "the clip among others. Attacks of one family count as one finding, whichever of them came furthest.",
        why="Whoever sees the update (the server, or somebody on the way) sees what the camera saw. Treat updates as "
        "you treat the clips.",
        remedies=(
            "Train and send less: freeze the backbone, send the head only (--trainable 'head*' to measure it).",
            "Average over space and time before the head instead of flattening; use fixed positions, not learned ones.",
            "Keep strides and pooling early in the network: every removed one gives the attacker equations.",
            "Aggregate securely, or add calibrated noise, and audit again.",
        ),
        evidence="The picture is compared with the true clip, with blind guesses, and with the same attack on the "
        "update of another clip (null control). A finding whose null control does not hold is no alert.",
        security_severity=10.0,
    ),
    Rule(
        name="feature-map",
        short="What an inner layer reads was recovered exactly",
        meaning="A recursion from the head down recovered what a layer reads: an exact inner value of the network, not "
        "yet a picture.",
        why="It tells the clip from any other, everything above the layer can be computed from it, and a search from "
        "there to pixels needs no further update.",
        remedies=(
            "Put a reduction (stride, pooling) before the layer, or give it fewer output channels.",
            "Train and send less: freeze the backbone.",
        ),
        evidence="The value is compared with the true one, and with that of another clip, which must lie far away.",
        security_severity=8.9,
    ),
    Rule(
        name="label-inference",
        short="Training labels can be read off the update",
        meaning="The labels of the clips in an update were restored from the head's gradient, above chance or with "
        "proof.",
        why="A label says what a person did in the clip. It also makes every other attack easier.",
        remedies=(
            "Train on larger batches (--batch) and over several local steps.",
            "Aggregate securely, so that nobody sees a single client's update.",
        ),
        evidence="An exact binomial test against guessing, or a rule that proves every label.",
        security_severity=3.9,
    ),
    Rule(
        name="frame-membership",
        short="An update tells whether a frame was in the client's clip",
        meaning="For a candidate frame, a test on the gradient of a weight that all frames share says whether the "
        "frame was part of the training clip.",
        why="Somebody who holds a photograph or a recording can prove that it was used.",
        remedies=("Train on several clips per update.", "Freeze the weight that all frames go through."),
        evidence="The test's error rate is measured on other frames of the same camera.",
        security_severity=3.9,
    ),
    Rule(
        name="update-exposure",
        short="The update determines much of a clip, by linear analysis",
        meaning="Linear analysis at one clip says that everything that is sent determines at least half of what such "
        "clips vary in. No attack needs to have recovered it.",
        why="It is there for a better attack: linear analysis predicts it, whether or not an attack got it.",
        remedies=("See which layers expose most, and freeze or pool these first.",),
        evidence="Predicted PSNR of a linear attacker with a prior of natural clips. It is neither a bound nor a "
        "prediction for another clip.",
    ),
    Rule(
        name="layer-exposure",
        short="A layer's gradient determines more or less of a clip than in the baseline",
        meaning="The exposure of one layer changed beyond 3 dB, a factor of two in squared error. Layers are matched "
        "through renames and insertions. Raised only against a baseline, and no regression by itself: update-exposure "
        "says whether the whole gives away more.",
        why="It says where a change of the architecture opened the update, often before an attack finds it.",
        remedies=("Look at what changed at and behind this layer: stride, pooling, width, positions.",),
        evidence="As update-exposure, for the gradient of this layer alone.",
    ),
    Rule(
        name="inconclusive",
        short="The audit cannot tell",
        meaning="A control failed, attacks did not finish, or the update exposes more than attacks recovered. Nothing "
        "follows from attacks that failed.",
        why="An audit that cannot tell has not passed: the gate fails closed unless it is told otherwise.",
        remedies=("Read the reasons of the verdict: mostly more --max-time or a larger --preset decides.",),
        evidence="The verdict's reasons.",
        level="warning",
    ),
)
BY_RULE: Mapping[str, Rule] = {rule.name: rule for rule in RULES}


def rule_named(name: str, where: str = "") -> Rule:
    """Return a rule.

    Raises
    ------
    UsageError
        There is none of that name; `where` says who asked.
    """
    if name in BY_RULE:
        return BY_RULE[name]
    told = f"{where}: " if where else ""
    raise UsageError(
        f"{told}there is no rule '{printable(name, 60)}'{did_you_mean(name, BY_RULE)}",
        f"use one of {', '.join(BY_RULE)}",
    )
