"""Face identity: what it says where there is no face, and without the extra; distances where it is installed."""

import importlib.util
import sys

import pytest
import torch

from auditor.errors import UsageError
from auditor.records import Skipped
from auditor.score.faces import REMEDY, FaceRecogniser

installed = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("dlib", "face_recognition_models")),
    reason="the extra 'faces' is not installed",
)


@pytest.mark.parametrize("missing", ["dlib", "face_recognition_models"])
def test_without_the_extra_it_says_what_to_install(missing, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else found(name))
    if missing == "dlib" or not found("dlib"):
        monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(UsageError) as error:
        FaceRecogniser()
    assert "is not installed" in error.value.cause
    assert error.value.remedy == REMEDY == "pip install 'fl-audit[faces]'"


@installed
def test_frames_without_a_face_say_so():
    recogniser = FaceRecogniser()
    noise = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    found = recogniser.match(noise, noise)
    assert isinstance(found, Skipped)
    assert found.because == "not-applicable"
    assert "no face was found in the true frames" in found.reason
    assert recogniser.faces(torch.full((1, 1, 32, 32), float("nan"))) == []


@installed
def test_the_nearest_pair_of_faces_decides(monkeypatch):
    faces = {2: [[0.0, 0.0], [3.0, 4.0]], 3: [[3.0, 4.5]], 4: [[9.0, 9.0]], 5: []}
    recogniser = FaceRecogniser()
    monkeypatch.setattr(recogniser, "faces", lambda clip: [torch.tensor(f) for f in faces[len(clip)]], raising=False)
    clips = {n: torch.zeros(n, 3, 8, 8) for n in faces}
    same = recogniser.match(clips[2], clips[3])
    assert (same.distance, same.same, same.truth_faces, same.faces) == (0.5, True, 2, 1)
    other = recogniser.match(clips[2], clips[4])
    assert other.distance == pytest.approx((36 + 25) ** 0.5)
    assert not other.same
    assert "in the reconstruction" in recogniser.match(clips[2], clips[5]).reason
