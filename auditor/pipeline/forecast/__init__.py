"""What a scan will take on this machine, told before it begins."""

from auditor.pipeline.forecast.forecast import forecast

__all__ = ["forecast"]
