"""Loading: a model file becomes a Target whose gradients are those that clients send."""

from auditor.model.forward_pass import first_input
from auditor.model.loading import load, load_two_part
from auditor.model.onnx.interpreter import OnnxModule
from auditor.model.smaller_clips import on_smaller_clips
from auditor.model.video import VideoModel

__all__ = ["OnnxModule", "VideoModel", "first_input", "load", "load_two_part", "on_smaller_clips"]
