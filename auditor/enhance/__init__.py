"""Super-resolve reconstructed frames: what they show then is inferred by a prior, not recovered from the update."""

from auditor.enhance.bicubic import Bicubic, bicubic
from auditor.enhance.dat import DatLight
from auditor.enhance.fusion import Fusion
from auditor.enhance.interface import Enhanced, Enhancer
from auditor.enhance.user_file import enhancer_from

__all__ = [
    "Bicubic",
    "DatLight",
    "Enhanced",
    "Enhancer",
    "Fusion",
    "bicubic",
    "enhancer_from",
]
