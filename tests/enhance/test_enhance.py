import builtins
import sys

import pytest
import torch

from auditor.enhance import DatLight, bicubic, dat
from auditor.errors import AuditError
from auditor.probe.fit import resize
from auditor.probe.real import manifest, shipped_frames


def db(a, b):
    return float(-10 * (a - b).square().mean().log10())


@pytest.fixture(scope="module")
def truth():
    return shipped_frames(manifest()[0])[8:10, :, 24:88, 24:88]


@pytest.mark.parametrize("scale", [2, 4])
def test_dat_beats_bicubic_on_a_real_frame(truth, scale):
    small = resize(truth, 64 // scale, 64 // scale)
    learned, plain = DatLight(scale)(small), bicubic(small, scale)
    assert learned.clip.shape == plain.clip.shape == truth.shape
    assert (learned.scale, learned.method) == (scale, "DAT-light")
    assert learned.seconds > 0
    assert db(truth, learned.clip) > db(truth, plain.clip) + 0.5
    assert 0 <= learned.clip.min() <= learned.clip.max() <= 1


def test_grey_is_enlarged_as_grey(truth):
    grey = resize(truth, 16, 16).mean(1, keepdim=True)
    enlarged = DatLight(2)(grey).clip
    assert enlarged.shape == (2, 1, 32, 32)
    assert torch.allclose(enlarged, DatLight(2)(grey.expand(-1, 3, -1, -1)).clip.mean(1, keepdim=True), atol=1e-5)


def test_batches_do_not_change_the_frames(truth, monkeypatch):
    small = resize(truth, 16, 16)
    together = DatLight(2)(small).clip
    monkeypatch.setattr(dat, "_BATCH_PIXELS", 1)
    assert torch.allclose(together, DatLight(2)(small).clip, atol=1e-4)


def test_masks_of_shifted_windows_are_made_once_a_size_and_are_the_same():
    network = dat._network(2)
    own = type(network)(upscale=2, split_size=[8, 32], depth=[3], num_heads=[6], embed_dim=60)
    blocks = [block for block in own.modules() if hasattr(block, "calculate_mask")]
    whole = [mask for size in ((32, 64), (64, 32)) for mask in blocks[0].calculate_mask(*size)]
    dat._remember_masks(own)
    remembered = [mask for size in ((32, 64), (64, 32)) for mask in blocks[-1].calculate_mask(*size)]
    assert all(torch.equal(a, b) for a, b in zip(whole, remembered, strict=True))
    assert blocks[0].calculate_mask(64, 32)[0] is blocks[-1].calculate_mask(64, 32)[0]


def test_odd_sizes_and_values_out_of_range():
    clip = torch.linspace(-1, 2, 3 * 7 * 5).reshape(1, 3, 7, 5)
    for enlarged in (DatLight(2)(clip).clip, bicubic(clip, 2).clip):
        assert enlarged.shape == (1, 3, 14, 10)
        assert 0 <= enlarged.min() <= enlarged.max() <= 1


def test_bicubic_keeps_what_is_linear():
    ramp = torch.linspace(0.1, 0.9, 32).expand(1, 1, 32, 32)
    step = 0.8 / 31
    enlarged = bicubic(ramp, 4).clip
    wanted = 0.1 + step * ((torch.arange(128) + 0.5) / 4 - 0.5)
    assert torch.allclose(enlarged[0, 0, 64, 16:112], wanted[16:112], atol=1e-5)


def test_the_result_can_be_differentiated_with_others(truth):
    enlarged = DatLight(2)(resize(truth[:1], 16, 16)).clip
    weight = torch.ones((), requires_grad=True)
    (enlarged * weight).sum().backward()
    assert weight.grad is not None


def test_estimate_grows_with_the_clip():
    enlarge = DatLight(2)
    one = enlarge.seconds_estimate((4, 3, 32, 32))
    assert one > 0
    assert enlarge.seconds_estimate((8, 3, 32, 32)) == pytest.approx(2 * one)


def test_estimate_is_linear_in_padded_pixels(monkeypatch):
    monkeypatch.setattr(dat, "_work", lambda scale, frames, height, width: frames * 1.0)
    assert DatLight(2).seconds_estimate((16, 3, 224, 256)) == pytest.approx(16 * 224 * 256 / 128**2)
    assert DatLight(2).seconds_estimate((5, 1, 32, 32)) == pytest.approx(5)


@pytest.mark.parametrize("error", [ImportError("no spandrel"), RuntimeError("torchvision::nms does not exist")])
def test_a_missing_library_is_one_line_with_a_remedy(monkeypatch, error):
    real = builtins.__import__

    def broken(name, *args, **kwargs):
        if name.startswith("spandrel"):
            raise error
        return real(name, *args, **kwargs)

    dat._network.cache_clear()
    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(AuditError, match="spandrel and a torchvision that matches") as caught:
        DatLight(2)(torch.rand(1, 3, 8, 8))
    assert "\n" not in str(caught.value)


def test_damaged_weights_are_an_error(monkeypatch, tmp_path):
    (tmp_path / "dat_light_x2.safetensors").write_bytes(b"not tensors")
    dat._network.cache_clear()
    monkeypatch.setattr(dat, "_WEIGHTS", tmp_path)
    with pytest.raises(AuditError, match="cannot be read"):
        DatLight(2)(torch.rand(1, 3, 8, 8))
    dat._network.cache_clear()


def test_importing_the_stage_does_not_import_spandrel():
    import subprocess

    code = "import sys, auditor.enhance; assert not {'spandrel', 'torchvision'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_scales_and_channels_are_errors():
    with pytest.raises(AuditError, match="choose 2 or 4"):
        DatLight(3)
    with pytest.raises(AuditError, match="use bicubic"):
        DatLight(2)(torch.rand(1, 2, 8, 8))
