"""An ONNX file becomes a differentiable network with the parameters that clients train."""
