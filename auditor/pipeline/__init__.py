"""Join the stages: load, generate, observe, invert, enhance, score, and hand the results to the report."""

from auditor.options import ScanOptions
from auditor.pipeline.progress import Display, Silent
from auditor.pipeline.scan import scan

__all__ = ["Display", "ScanOptions", "Silent", "scan"]
