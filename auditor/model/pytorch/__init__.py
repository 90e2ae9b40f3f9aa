"""Models that are PyTorch already, from wherever people keep them: each file here is one such place."""

from auditor.model.pytorch.built import Built

__all__ = ["Built"]
