"""Independent witnesses: finite differences, ONNX Runtime, two forms of one model."""
