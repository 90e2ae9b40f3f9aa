"""The net of the catalogue of architectures that is most like the model, and what was found there."""

from auditor.results.declare import Decibel, LongName, Name, record
from auditor.results.scores import Grade


@record
class MostLikeBlock:
    """A net with the same kinds of layers and the same kind of head, of several the nearest in parameters.

    It tells what to expect and takes no part in a verdict. `nets` counts those that have the same, `clips` are an
    update's there. `attack` and `psnr` are of the best picture there, None where no attack gave one.
    """

    net: Name
    family: LongName
    nets: int
    parameters: int
    clips: int
    attack: Name | None
    psnr: Decibel | None
    grade: Grade
    date: Name
