"""Which numbers of an ONNX file clients train, and how much of the file that accounts for."""
