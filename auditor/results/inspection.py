"""What `fl-audit inspect --json` prints: a model, how it is read and how faithfully, without attacking it."""

from collections.abc import Mapping

from auditor.results.asides import Check
from auditor.results.declare import LongName, Measured, Name, Seconds, record
from auditor.results.model import Determinacy, Fidelity, InputSpec
from auditor.results.protection.privacy import PrivacyClaimBlock


@record
class EnteringBlock:
    """What enters the model of a shipped clip: mean and deviation by channel."""

    shape: tuple[int, ...]
    minimum: Measured
    maximum: Measured
    mean: tuple[Measured, ...]
    std: tuple[Measured, ...]


@record
class FirstLayerBlock:
    """The first layer that reads the clip, the shape that it reads, and how that was seen."""

    name: str
    shape: tuple[int, ...]
    how: str


@record
class InspectedInput(InputSpec):
    """The input, where each part of its description comes from, and what enters."""

    origins: Mapping[str, str]
    entering: EnteringBlock
    first_layer: FirstLayerBlock


@record
class InspectedParameter:
    """One parameter; `trainable` where a client would send it, `layer` the one that owns it."""

    name: LongName
    shape: tuple[int, ...]
    trainable: bool
    layer: LongName | None


@record
class LossGuess:
    """The loss that the model's output suggests, and why."""

    loss: str
    because: str


@record
class InspectedFidelity(Fidelity):
    """Fidelity, and what the model would be trained as."""

    loss: Name
    loss_guess: LossGuess
    classes: int
    client_bn: str
    seconds_to_load: Seconds


@record
class FlagBlock:
    """What a layer's gradient gives away by structure."""

    layer: LongName
    kind: str
    text: str


@record
class ClientCheckBlock:
    """What a client could tell of the model before training it; `suspicious` counts tests that failed."""

    suspicious: int
    note: str
    tests: tuple[Check, ...]


@record
class InspectionDocument:
    """What was found out about a model."""

    format: str
    sha256: str
    input: InspectedInput
    parameters: tuple[InspectedParameter, ...]
    operators: Mapping[LongName, int]
    fidelity: InspectedFidelity
    flags: tuple[FlagBlock, ...]
    determinacy: tuple[Determinacy, ...]
    client_check: ClientCheckBlock
    privacy: PrivacyClaimBlock | None = None
