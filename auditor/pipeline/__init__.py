"""Join the stages: load, generate, observe, invert, enhance, score, and hand the results to the report."""

from auditor.pipeline.options import ScanOptions
from auditor.pipeline.scan import scan
from auditor.pipeline.watch import Silent, Watch

__all__ = ["ScanOptions", "Silent", "Watch", "scan"]
