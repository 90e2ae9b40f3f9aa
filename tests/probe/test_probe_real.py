import hashlib
import shutil

import pytest
import torch

from auditor.errors import AuditError, UsageError
from auditor.probe import public_probes, real, shipped_probes
from auditor.probe.fit import BT601, crop_to_aspect, own_window, resize, window, with_channels
from auditor.records import InputSpec
from auditor.shipped import shipped


def spec(frames=8, channels=3, height=32, width=32):
    return InputSpec(frames=frames, channels=channels, height=height, width=width, layout="NCTHW")


def test_manifest_lists_every_file_with_its_terms():
    files = {path.name for path in shipped("probes").glob("*.npz")}
    assert files == {entry["file"] for entry in real.manifest()}
    sources = (shipped("probes") / "SOURCES.md").read_text(encoding="utf-8")
    for entry in real.manifest():
        assert entry["licence"] in ("BSD-3-Clause", "Apache-2.0", "CC0-1.0")
        assert f"| {entry['name']} |" in sources
        assert entry["consent"]
        assert hashlib.sha256((shipped("probes") / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
    assert sum(path.stat().st_size for path in shipped("probes").glob("*.npz")) < 5.2e6


@pytest.mark.parametrize(
    "shape", [(8, 3, 32, 32), (16, 3, 112, 112), (5, 1, 30, 45), (40, 3, 16, 16), (1, 3, 20, 20), (2, 3, 128, 160)]
)
def test_probes_have_the_shape_the_model_reads(shape):
    probes = shipped_probes(spec(*shape))
    assert len(probes) == 7
    for probe in probes:
        assert probe.clip.shape == shape
        assert probe.clip.dtype == torch.float32
        assert 0 <= probe.clip.min() < probe.clip.max() <= 1
        assert probe.native.shape[:2] == shape[:2]
        assert probe.native.shape[2] / probe.native.shape[3] == pytest.approx(shape[2] / shape[3], rel=0.02)


def test_people_come_first_and_limit_is_kept():
    assert [probe.name for probe in shipped_probes(spec(), limit=2)] == ["park_walker", "treadmill_two"]
    people = [entry["people"] != "no one" for entry in real.manifest()]
    assert people == sorted(people, reverse=True)


def test_every_clip_moves():
    for probe in shipped_probes(spec()):
        assert probe.clip.diff(dim=0).abs().mean() > 0.003, probe.name


def test_a_damaged_probe_is_refused(monkeypatch, tmp_path):
    folder = tmp_path / "probes"
    shutil.copytree(shipped("probes"), folder)
    monkeypatch.setattr(real, "shipped", lambda name: folder)
    content = bytearray((folder / "hand_cup.npz").read_bytes())
    content[1000] ^= 1
    (folder / "hand_cup.npz").write_bytes(content)
    with pytest.raises(AuditError, match=r"hand_cup\.npz is damaged"):
        shipped_probes(spec())
    (folder / "hand_cup.npz").unlink()
    with pytest.raises(AuditError, match=r"hand_cup\.npz is missing"):
        shipped_probes(spec())


def test_a_model_of_two_channels_needs_clips_of_its_own():
    with pytest.raises(UsageError, match="2 channels"):
        shipped_probes(spec(channels=2))


@pytest.mark.parametrize(
    ("available", "wanted", "start", "length"),
    [(24, 8, 4, 15), (24, 16, 4, 16), (24, 24, 0, 24), (24, 40, 0, 24), (3, 2, 0, 3), (2, 2, 0, 2), (9, 1, 4, 1)],
)
def test_window_is_central_with_stride_2_where_it_fits(available, wanted, start, length):
    assert own_window(available, wanted) == (start, length)


def test_windows_take_frames_as_they_are_and_stretch_linearly():
    frames = torch.arange(24.0)[:, None, None, None]
    assert window(frames, 4, 15, 8).flatten().tolist() == [4, 6, 8, 10, 12, 14, 16, 18]
    assert window(frames, 2, 3, 5).flatten().tolist() == [2, 2.5, 3, 3.5, 4]


def test_crop_is_central_and_resize_keeps_the_mean():
    frames = torch.rand(2, 3, 40, 60, generator=torch.Generator().manual_seed(0))
    assert torch.equal(crop_to_aspect(frames, 10, 10), frames[..., 10:50])
    assert torch.equal(crop_to_aspect(frames, 10, 30), frames[..., 10:30, :])
    assert resize(frames, 10, 15).mean() == pytest.approx(float(frames.mean()), abs=0.01)
    # An antialiased filter suppresses a pattern that is too fine for the result; sampling would alias it.
    stripes = (torch.arange(64) % 2).float().expand(1, 1, 64, 64)
    assert resize(stripes, 16, 16)[..., 4:12].std() < 0.02


def test_luma_is_that_of_pillow():
    from PIL import Image

    image = torch.randint(0, 256, (9, 7, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    pillow = torch.tensor(list(Image.fromarray(image.numpy()).convert("L").tobytes())).reshape(9, 7)
    ours = with_channels(image.permute(2, 0, 1)[None].float() / 255, 1) * 255
    assert sum(BT601) == pytest.approx(1)
    assert (ours[0, 0] - pillow).abs().max() <= 1


def test_models_of_other_channels_are_checked_on_textures():
    assert [p.kind for p in public_probes(spec(channels=1), 2)] == ["real", "real"]
    flow = public_probes(spec(channels=2), 2)
    assert [(p.kind, p.clip.shape[1]) for p in flow] == [("texture", 2), ("texture", 2)]
    assert not torch.equal(flow[0].clip, flow[1].clip)
