"""Is the person recognised? The distance between faces of the true frames and of a reconstruction."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from auditor.errors import AuditError, UsageError
from auditor.records import Clip, Skipped
from auditor.results.scores import FaceMatch

# dlib's documented threshold: its network is right for 99.38% of the pairs of Labeled Faces in the Wild. Half of them
# are strangers, so that at most 1.24% of strangers are called the same person, were every error of that kind.
SAME_PERSON = 0.6
FALSE_ACCEPT = 0.0124
# dlib's detector finds faces of 80 pixels and more: frames are enlarged four times where the result is no larger than
# 1024 pixels a side, so that faces of 20 pixels are found.
_ENLARGED = 4.0
_LARGEST_SIDE = 1024
# Frames looked at, spread evenly: each takes about a tenth of a second.
_FRAMES = 4
REMEDY = "pip install 'fl-audit[faces]'"


class FaceRecogniser:
    """dlib's face detector and recognition network (King, JMLR 10, 2009), which the extra `faces` brings.

    Raises
    ------
    UsageError
        The extra is not installed.
    AuditError
        Its files are missing or broken.
    """

    def __init__(self) -> None:
        try:
            import dlib
        except ImportError as error:
            raise UsageError("face identity needs dlib, which is not installed", REMEDY) from error
        folder = _models()
        try:
            self._detect: Any = dlib.get_frontal_face_detector()
            self._shape: Any = dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat"))
            self._embed: Any = dlib.face_recognition_model_v1(str(folder / "dlib_face_recognition_resnet_model_v1.dat"))
        except RuntimeError as error:
            raise AuditError("the models of face-recognition-models cannot be read", f"reinstall: {REMEDY}") from error

    def match(self, truth: Clip, estimate: Clip) -> FaceMatch | Skipped:
        """Compare the faces in the true frames, at their native size, with those of an estimate of any size.

        Says why where a side shows no face that can be found: the usual answer for small or blurred frames.
        """
        own = self.faces(truth)
        if not own:
            return _nothing("no face was found in the true frames: there is no identity to leak, or it is too small")
        found = self.faces(estimate)
        if not found:
            return _nothing("no face was found in the reconstruction")
        distance = min(float((a - b).norm()) for a in own for b in found)
        return FaceMatch(distance=distance, same=distance <= SAME_PERSON, truth_faces=len(own), faces=len(found))

    def faces(self, clip: Clip) -> list[Float[Tensor, "128"]]:
        """Return the embeddings of the faces in at most four frames, spread evenly."""
        last = len(clip) - 1
        places = sorted({round(i * last / (_FRAMES - 1)) for i in range(_FRAMES)})
        return [face for frame in _enlarged(clip[places]) for face in self._of_frame(frame)]

    def _of_frame(self, frame: Float[Tensor, "channel height width"]) -> Iterable[Float[Tensor, "128"]]:
        import torch

        image = (frame.permute(1, 2, 0) * 255).round().to(torch.uint8).contiguous().numpy()
        for box in self._detect(image):
            landmarks = self._shape(image, box)
            yield torch.tensor(list(self._embed.compute_face_descriptor(image, landmarks)), dtype=torch.float64)


def _models() -> Path:
    """Return the folder of the models; the package itself is not imported, because it needs setuptools."""
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError("face identity needs face-recognition-models, which is not installed", REMEDY)
    return Path(next(iter(spec.submodule_search_locations))) / "models"


def _enlarged(clip: Clip) -> Clip:
    """Return frames of three channels, enlarged so that faces of 20 pixels are found."""
    frames = clip.detach().cpu().float().nan_to_num(0.5).clamp(0, 1)
    if frames.shape[1] != 3:
        frames = frames.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    scale = max(1.0, min(_ENLARGED, _LARGEST_SIDE / max(frames.shape[-2:])))
    size = [round(extent * scale) for extent in frames.shape[-2:]]
    return functional.interpolate(frames, size, mode="bicubic", align_corners=False).clamp(0, 1)


def _nothing(reason: str) -> Skipped:
    return Skipped(stage="score", what="face identity", because="not-applicable", reason=reason)
