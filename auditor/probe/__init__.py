"""Make clips with a known truth: shipped, the user's own, machine-readable canaries and moving textures."""

from auditor.probe.canary import canary
from auditor.probe.fit import PICTURES
from auditor.probe.gallery import Galleries, Gallery, gallery
from auditor.probe.real import probes_of_scenes, public_probes, shipped_names, shipped_probes, shipped_windows
from auditor.probe.scenes import alike, camera, same_camera, scene_frames
from auditor.probe.texture import moving_texture
from auditor.probe.user import SceneFrames, reference_frames, user_probes

__all__ = [
    "PICTURES",
    "Galleries",
    "Gallery",
    "SceneFrames",
    "alike",
    "camera",
    "canary",
    "gallery",
    "moving_texture",
    "probes_of_scenes",
    "public_probes",
    "reference_frames",
    "same_camera",
    "scene_frames",
    "shipped_names",
    "shipped_probes",
    "shipped_windows",
    "user_probes",
]
