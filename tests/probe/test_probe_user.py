import contextlib
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from auditor.errors import UsageError
from auditor.probe import user_probes
from auditor.records import InputSpec

SPEC = InputSpec(frames=8, channels=3, height=32, width=32, layout="NCTHW")


def moving(frames=20, height=48, width=64):
    """Return a bright square on a dark ramp that moves right, uint8 (frame, height, width, 3)."""
    clip = np.tile(np.linspace(20, 100, width, dtype=np.uint8)[None, None, :, None], (frames, height, 1, 3))
    for t in range(frames):
        clip[t, 10:25, 2 * t : 2 * t + 12] = (250, 200, 30)
    return clip


def encode(path, frames, codec="mpeg4", **options):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=15, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def save_frames(folder, frames, name="frame{}.png"):
    folder.mkdir()
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / name.format(t))


def one(path, spec=SPEC):
    (probe,) = user_probes(path, spec)
    assert probe.kind == "user"
    assert probe.clip.shape == spec.clip_shape
    assert 0 <= probe.clip.min() <= probe.clip.max() <= 1
    return probe


def test_a_video_gives_its_central_window(tmp_path):
    encode(tmp_path / "square.mp4", moving())
    probe = one(tmp_path / "square.mp4")
    assert probe.name == "square.mp4"
    assert probe.native.shape == (8, 3, 48, 48)
    # Frames 2, 4, ... 16 of 20, cut to the central 48 columns.
    wanted = torch.from_numpy(moving()[2:17:2, :, 8:56]).permute(0, 3, 1, 2) / 255
    assert (probe.native - wanted).abs().mean() < 0.02


def test_rotated_videos_are_turned_upright(tmp_path):
    frames = moving()
    encode(tmp_path / "plain.mp4", frames)
    content = (tmp_path / "plain.mp4").read_bytes()
    # Write a rotation of 90 degrees into the track header's matrix (ISO/IEC 14496-12, 8.3.2): a b u c d v x y w.
    plain = b"".join(x.to_bytes(4, "big") for x in (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30))
    turned = b"".join((x % 2**32).to_bytes(4, "big") for x in (0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30))
    header = content.index(b"tkhd")
    at = content.index(plain, header)
    (tmp_path / "turned.mp4").write_bytes(content[:at] + turned + content[at + 36 :])
    upright = one(tmp_path / "turned.mp4").native
    # The matrix says: show the stored frame turned by 90 degrees clockwise.
    assert upright.shape == (8, 3, 48, 48)
    stored = torch.from_numpy(np.rot90(frames, k=-1, axes=(1, 2)).copy())[2:17:2, 8:56].permute(0, 3, 1, 2) / 255
    assert (upright - stored).abs().mean() < 0.02


def test_frames_go_in_natural_order(tmp_path):
    save_frames(tmp_path / "clip", moving(12))
    probe = one(tmp_path / "clip", InputSpec(frames=12, channels=3, height=48, width=64, layout="NCTHW"))
    assert torch.equal(probe.clip, torch.from_numpy(moving(12)).permute(0, 3, 1, 2).float() / 255)


def test_odd_sizes_grey_palette_and_alpha(tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    frames = moving(3, 33, 47)
    Image.fromarray(frames[0]).convert("L").save(folder / "1.png")
    Image.fromarray(frames[1]).convert("P").save(folder / "2.bmp")
    Image.fromarray(frames[2]).convert("RGBA").save(folder / "3.png")
    assert one(folder).native.shape == (8, 3, 33, 33)


@pytest.mark.parametrize("order", ["THWC", "TCHW"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_arrays(tmp_path, order, dtype):
    array = moving(8, 32, 32) if dtype == np.uint8 else (moving(8, 32, 32) / 255).astype(dtype)
    np.savez(tmp_path / "a.npz", array if order == "THWC" else array.transpose(0, 3, 1, 2))
    probe = one(tmp_path / "a.npz")
    assert torch.allclose(probe.clip, torch.from_numpy(moving(8, 32, 32)).permute(0, 3, 1, 2) / 255, atol=1e-6)


def test_arrays_with_the_channels_of_the_model(tmp_path):
    flow = np.random.default_rng(0).random((8, 32, 32, 2))
    np.savez(tmp_path / "flow.npz", flow)
    one(tmp_path / "flow.npz", InputSpec(frames=8, channels=2, height=32, width=32, layout="NCTHW"))
    with pytest.raises(UsageError, match="looks like channels"):
        user_probes(tmp_path / "flow.npz", SPEC)


def test_grey_arrays_and_grey_models(tmp_path):
    np.savez(tmp_path / "grey.npz", moving(8)[..., :1])
    probe = one(tmp_path / "grey.npz")
    assert torch.equal(probe.clip[:, 0], probe.clip[:, 2])
    np.savez(tmp_path / "colour.npz", moving(8))
    one(tmp_path / "colour.npz", InputSpec(frames=8, channels=1, height=32, width=32, layout="NCTHW"))


def test_a_folder_of_clips_gives_several(tmp_path):
    encode(tmp_path / "b10.mp4", moving())
    encode(tmp_path / "b2.mp4", moving())
    np.savez(tmp_path / "a.npz", moving(4))
    save_frames(tmp_path / "frames", moving(5))
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    assert [probe.name for probe in user_probes(tmp_path, SPEC)] == ["a.npz", "b2.mp4", "b10.mp4", "frames"]


def test_long_clips_are_read_in_part(tmp_path):
    np.savez(tmp_path / "long.npz", moving(20).repeat(20, axis=0))
    assert one(tmp_path / "long.npz").clip.shape == (8, 3, 32, 32)
    encode(tmp_path / "long.mp4", moving(20).repeat(20, axis=0))
    one(tmp_path / "long.mp4")


def test_large_frames_are_shrunk_while_reading(tmp_path):
    encode(tmp_path / "large.mp4", np.full((3, 1080, 1920, 3), 90, np.uint8))
    assert one(tmp_path / "large.mp4").native.shape == (8, 3, 512, 512)


def write(array):
    return lambda path: np.savez(path, array)


WRONG = {
    "text.mp4": (lambda p: p.write_text("not a video"), "cannot decode text.mp4"),
    "empty.mp4": (lambda p: p.write_bytes(b""), "cannot decode empty.mp4"),
    "still.png": (lambda p: Image.fromarray(moving(1)[0]).save(p), "1 frame; a clip needs at least two"),
    "one.mp4": (lambda p: encode(p, moving(1)), "1 frame; a clip needs at least two"),
    "one.npz": (write(moving(1)), "1 frame; a clip needs at least two"),
    "nan.npz": (write(np.full((4, 8, 8, 3), np.nan)), "NaN"),
    "flat.npz": (write(np.zeros((8, 8, 3))), "3 dimensions"),
    "many.npz": (write(np.zeros((2, 4, 8, 8, 3))), "5 dimensions"),
    "none.npz": (write(np.zeros((0, 8, 8, 3))), "empty array"),
    "bytes.npz": (write(np.full((4, 8, 8, 3), 255.0)), "scale pixels to"),
    "signed.npz": (write(np.full((4, 8, 8, 3), -0.5)), "scale pixels to"),
    "wide.npz": (write(np.zeros((4, 8, 8, 3), np.int64)), "type int64"),
    "complex.npz": (write(np.zeros((4, 8, 8, 3), complex)), "type complex128"),
    "object.npz": (write(np.array([{}], dtype=object)), "without objects"),
    "junk.npz": (lambda p: p.write_bytes(b"PK\x03\x04 junk"), "cannot read junk.npz"),
    "two.npz": (lambda p: np.savez(p, a=moving(2), b=moving(2)), "2 arrays"),
    "channels.npz": (write(np.zeros((4, 8, 8, 5))), "looks like channels"),
    "nothing": (lambda p: p.mkdir(), "holds no clip"),
    "missing.mp4": (lambda p: None, "does not exist"),
    "mixed": (lambda p: (save_frames(p, moving(2)), (p / "notes.txt").write_text("x")), "mixes frames"),
    "sizes": (lambda p: (save_frames(p, moving(2)), save_one(p)), "differ in size"),
    "broken": (lambda p: (save_frames(p, moving(2)), (p / "frame9.png").write_bytes(b"x")), "cannot read frame 3"),
    "single": (lambda p: save_frames(p, moving(1)), "1 frame; a clip needs at least two"),
}


def save_one(folder):
    Image.fromarray(moving(1, 20, 20)[0]).save(folder / "frame9.png")


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_in_one_line(tmp_path, capfd, name):
    make, message = WRONG[name]
    make(tmp_path / name)
    with pytest.raises(UsageError, match=message) as caught:
        user_probes(tmp_path / name, SPEC)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy
    assert capfd.readouterr() == ("", "")


def test_a_truncated_video_is_an_error_or_a_shorter_clip_without_a_word(tmp_path, capfd):
    encode(tmp_path / "whole.avi", moving(40), codec="mpeg4")
    content = (tmp_path / "whole.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(content[: len(content) // 2])
    capfd.readouterr()
    with contextlib.suppress(UsageError):
        one(tmp_path / "cut.avi")
    assert capfd.readouterr() == ("", "")


def test_audio_is_not_a_clip(tmp_path):
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(UsageError, match="no video stream"):
        user_probes(tmp_path / "sound.wav", SPEC)


def test_names_are_inert(tmp_path):
    np.savez(tmp_path / "a\x1b[31m\u202eb.npz", moving(4))
    probe = one(tmp_path / "a\x1b[31m\u202eb.npz")
    assert probe.name == "a[31mb.npz"
    assert "\x1b" not in probe.source


def test_pickles_are_never_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    np.savez(tmp_path / "bomb.npz", np.array([Bomb()], dtype=object))
    with pytest.raises(UsageError):
        user_probes(tmp_path / "bomb.npz", SPEC)
    assert not (tmp_path / "exploded").exists()
