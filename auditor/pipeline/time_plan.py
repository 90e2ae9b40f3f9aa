"""How a scan divides its work: shares of the reference seconds left when a part begins; attacks take the rest."""

from auditor.attack import Preset
from auditor.pipeline.identity import SECONDS_TO_RECOGNISE
from auditor.probe import probes_of_scenes
from auditor.records import Probe, Target, record

# Looking for faces never takes more than this share of what is left before the attacks.
_MOST_TO_RECOGNISE = 0.2
# What single layers take at most, in units of their share: longer searches of every part are there for the asking.
_MOST_LEFT_OVER = 1.5


@record
class TimePlan:
    """Shares of a scan's budget of work, each in [0, 1].

    Attributes
    ----------
    controls, exposure, membership
        Of what is left when each begins. Membership is a few forward passes a clip, where it applies at all.
    diagnosis, enhancement, what_if, layers, malicious
        Of what is left when the attacks begin; 0 for what does not run. What earlier parts leave over goes to later
        ones in proportion.
    faces
        Whether work is kept for looking for faces.
    """

    controls: float = 0.5
    exposure: float = 0.15
    membership: float = 0.05
    diagnosis: float = 0.0
    enhancement: float = 0.1
    what_if: float = 0.0
    layers: float = 0.0
    malicious: float = 0.0
    faces: bool = False

    @classmethod
    def of(
        cls, preset: Preset, *, what_if: bool | None, malicious: bool | None, faces: bool, layers: int | None = None
    ) -> "TimePlan":
        """Return the plan of a preset; None leaves a choice to it. Without what-if no server is malicious unasked."""
        changes = preset.what_if if what_if is None else what_if
        server = preset.what_if and changes if malicious is None else malicious
        single = _layers(preset.what_if and changes, layers)
        return cls(
            diagnosis=0.05 if preset.diagnose else 0.0,
            # Layers say what to keep back, as what-ifs say what to change: where both run, one share is theirs.
            what_if=0.3 - single if changes else 0.0,
            layers=single,
            malicious=0.1 if server else 0.0,
            faces=faces,
        )

    @property
    def attacks(self) -> float:
        """Share of what is left when the attacks begin that they may use, with none kept for faces."""
        return 1.0 - self._later

    @property
    def _later(self) -> float:
        return self.enhancement + self.what_if + self.layers + self.malicious + self.diagnosis

    def seconds_to_recognise(self, left: float) -> float:
        """Return the seconds kept for looking for faces, of those left when the attacks begin."""
        return min(SECONDS_TO_RECOGNISE, _MOST_TO_RECOGNISE * left) if self.faces else 0.0

    def seconds_to_attack(self, left: float) -> float:
        """Return the attacks' seconds, of those left when they begin."""
        return left - (self.seconds_to_recognise(left) + self._later * left)

    def seconds_to_diagnose(self, left: float) -> float:
        """Return the diagnosis' seconds, of those left when it begins."""
        return left * self.diagnosis / self._later

    def seconds_to_enhance(self, left: float, recognise: float) -> float:
        """Return the enhancement's seconds, of those left when it begins, `recognise` of which are kept for faces."""
        return max(0.0, left - recognise) * self.enhancement / (self._later - self.diagnosis)

    def seconds_for_what_if(self, left: float) -> float:
        """Return the variants' seconds, of those left when they begin; layers and a malicious server take the rest."""
        return left * self.what_if / (self.what_if + self.layers + self.malicious) if self.what_if else 0.0

    def seconds_for_layers(self, left: float, whole: float) -> float:
        """Return the seconds of single layers, of those left when they begin; the malicious server takes the rest.

        What earlier parts leave over adds at most half to their share of the `whole` budget.
        """
        if not self.layers:
            return 0.0
        return min(left * self.layers / (self.layers + self.malicious), _MOST_LEFT_OVER * self.layers * whole)

    def __str__(self) -> str:
        """Return one line: the share of every part that runs."""
        later = {
            "attacks": self.attacks,
            "diagnosis": self.diagnosis,
            "enhancement": self.enhancement,
            "what-if": self.what_if,
            "single layers": self.layers,
            "malicious server": self.malicious,
        }
        told = ", ".join(f"{part} {share:.0%}" for part, share in later.items() if share > 0.0)
        return f"exposure {self.exposure:.0%}, membership {self.membership:.0%}; of the rest: {told}"


def _layers(unasked: bool, wanted: int | None) -> float:
    """Return the share of single layers: a small one where nobody asked for any number of them."""
    if wanted is None:
        return 0.05 if unasked else 0.0
    return 0.2 if wanted else 0.0


@record
class Prepared:
    """A loaded model, and the preset and the reference seconds of its audit, which its own size does not change.

    Without seconds the preset's own are taken, and more where attacks need it. Reconstructions of such an audit are not
    enhanced: a comparison is of what attacks recover.
    """

    target: Target
    preset: Preset
    seconds: float | None

    @property
    def clips(self) -> tuple[Probe, ...]:
        """The shipped clips of its audit, of as many scenes as they can be: intervals are over scenes."""
        return probes_of_scenes(self.target.input, self.preset.probes)
