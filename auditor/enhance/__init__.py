"""Super-resolve reconstructed frames: what they show then is inferred by a prior, not recovered from the update."""

from auditor.enhance.bicubic import bicubic
from auditor.enhance.dat import DatLight

__all__ = ["DatLight", "bicubic"]
