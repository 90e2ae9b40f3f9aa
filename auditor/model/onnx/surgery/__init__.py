"""Exact changes of an ONNX graph: the same names as those of PyTorch networks, as far as a graph tells its parts."""

from auditor.model.onnx.surgery.changed_file import changed_file

__all__ = ["changed_file"]
