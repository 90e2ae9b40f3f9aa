"""What a manipulated model brought the server that handed it out."""

from auditor.attack import Attack
from auditor.federated.model_check import suspicious
from auditor.records import Skipped, record
from auditor.results.asides import Check
from auditor.score import ClipScore, Grade, grade_clip

THREAT = "F"
THREAT_TITLE = "A server that manipulates the model it hands out (active server)"
# A null control that gains this much on the blind guesses would be no null.
_NULL_GAIN = 1.0


@record
class Manipulation:
    """One manipulation and what it brought the server.

    Attributes
    ----------
    share, honest_share
        Cosine of the update below the head with the update of the scored clip alone; for fishing.
    exact, certified
        Clips of the batch recovered to 60 dB, and those that the attacker can prove; for the imprint.
    score, null, honest
        Of the scored clip: this attack, the same on another client's update, and an honest server's at the same batch.
    rounds
        How often the client answered, on the same batch.
    checks
        What the client's check of the manipulated model says.
    """

    name: str
    change: str
    batch: int
    attack: Attack
    share: float | None = None
    honest_share: float | None = None
    exact: int | None = None
    certified: int | None = None
    score: ClipScore | None = None
    null: ClipScore | None = None
    honest: ClipScore | None = None
    rounds: int = 1
    steps: int = 0
    checks: tuple[Check, ...] = ()
    skipped: Skipped | None = None

    @property
    def grade(self) -> Grade | None:
        """What was demonstrated on the scored clip."""
        return None if self.score is None else grade_clip(self.score)

    @property
    def null_at_chance(self) -> bool | None:
        """Whether the null control stayed at the level of a blind guess."""
        return None if self.null is None else self.null.gain < _NULL_GAIN

    @property
    def detected(self) -> tuple[Check, ...]:
        """Tests of the client that the manipulated model fails."""
        return suspicious(self.checks)


@record
class MaliciousServer:
    """All manipulations, and the client's check of the model as audited (a false alarm, or a finding)."""

    audited: tuple[Check, ...]
    manipulations: tuple[Manipulation, ...]
