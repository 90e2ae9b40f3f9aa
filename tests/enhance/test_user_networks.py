"""Networks of the user's: weights that spandrel recognises, ONNX files, and files that are neither."""

import pickle
import warnings

import pytest
import torch
from onnx import TensorProto, helper, save
from safetensors.torch import save_file
from torch import nn

from auditor.enhance import Enhancer, bicubic, enhancer_from
from auditor.errors import AuditError, UsageError

CLIP = torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(0))


def compact(scale=2, channels=3):
    """A small SRVGGNetCompact (the architecture of Real-ESRGAN's video models)."""
    from spandrel.architectures.Compact import Compact

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        return Compact(num_in_ch=channels, num_out_ch=channels, num_feat=8, num_conv=2, upscale=scale).eval()


def onnx_file(path, scale=2.0, size=(None, None), channels=3, batch=None, offset=0.0):
    """An ONNX file that enlarges by nearest pixels and adds an offset."""
    shape = [batch or "n", channels, size[0] or "h", size[1] or "w"]
    graph = helper.make_graph(
        [
            helper.make_node("Resize", ["x", "", "scales"], ["larger"], mode="nearest"),
            helper.make_node("Add", ["larger", "offset"], ["y"]),
        ],
        "enlarging",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            helper.make_tensor("scales", TensorProto.FLOAT, [4], [1.0, 1.0, scale, scale]),
            helper.make_tensor("offset", TensorProto.FLOAT, [], [offset]),
        ],
    )
    save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("scale", [2, 4])
def test_weights_are_recognised_and_run_as_the_network_itself(tmp_path, suffix, scale):
    net, path = compact(scale), tmp_path / f"mine{suffix}"
    save_file(net.state_dict(), path) if suffix == ".safetensors" else torch.save({"params": net.state_dict()}, path)
    enhance = enhancer_from(path)
    assert isinstance(enhance, Enhancer)
    assert (enhance.scale, enhance.name) == (scale, f"RealESRGAN Compact (mine{suffix})")
    made = enhance(CLIP)
    with torch.no_grad():
        assert torch.allclose(made.clip, net(CLIP).clamp(0, 1), atol=1e-5)
    assert enhance.seconds_estimate((4, 3, 8, 8)) > 0


def test_grey_clips_pass_through_colour_networks(tmp_path):
    torch.save(compact().state_dict(), tmp_path / "sr.pth")
    for path in (tmp_path / "sr.pth", onnx_file(tmp_path / "sr.onnx")):
        assert enhancer_from(path)(CLIP[:, :1]).clip.shape == (2, 1, 24, 20)
        with pytest.raises(AuditError, match="1 or 3 channels, not 2"):
            enhancer_from(path)(CLIP[:, :2])


def test_an_onnx_network_enlarges_by_the_scale_that_a_trial_tells(tmp_path):
    enhance = enhancer_from(onnx_file(tmp_path / "three.onnx", 3.0))
    assert isinstance(enhance, Enhancer)
    assert enhance.scale == 3
    nearest = nn.functional.interpolate(CLIP, scale_factor=3, mode="nearest")
    assert torch.allclose(enhance(CLIP).clip, nearest)


def test_an_exported_network_runs_as_in_torch(tmp_path):
    net = compact()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (CLIP[:1],), str(tmp_path / "net.onnx"), dynamo=True, verbose=False)
    made = enhancer_from(tmp_path / "net.onnx")(CLIP)
    with torch.no_grad():
        assert torch.allclose(made.clip, net(CLIP).clamp(0, 1), atol=1e-4)


def test_a_fixed_size_is_refused_for_other_clips_only(tmp_path):
    enhance = enhancer_from(onnx_file(tmp_path / "fixed.onnx", size=(12, 10), batch=1))
    assert enhance(CLIP).clip.shape == (2, 3, 24, 20)
    with pytest.raises(AuditError, match="reads frames of 12x10 only"):
        enhance(CLIP[..., :8])


def test_the_process_may_be_gone_between_two_clips(tmp_path):
    enhance = enhancer_from(onnx_file(tmp_path / "sr.onnx"))
    first = enhance(CLIP).clip
    enhance._session.worker.stop()
    assert torch.equal(enhance(CLIP).clip, first)


class Harmful:
    def __reduce__(self):
        return (open, ("/nonexistent/executed", "w"))


def test_a_pickle_is_never_executed(tmp_path):
    for name in ("code.pth", "code.ckpt", "code.pt"):
        (tmp_path / name).write_bytes(pickle.dumps({"params": Harmful()}))
        with pytest.raises(UsageError, match="without executing it"):
            enhancer_from(tmp_path / name)


def refused(path, match):
    with pytest.raises(UsageError, match=match) as caught:
        enhancer_from(path)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_networks_are_one_line(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"junk" * 10)
    (tmp_path / "a.onnx").write_bytes(b"junk" * 10)
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "a.txt").write_text("weights")
    torch.save({"w": torch.zeros(3)}, tmp_path / "unknown.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    refused(tmp_path / "a.safetensors", "no weights that can be read")
    refused(tmp_path / "a.onnx", "is not an ONNX file")
    refused(tmp_path / "empty.onnx", "is empty")
    refused(tmp_path / "a.txt", "no known ending")
    refused(tmp_path / "missing.pth", "cannot read")
    refused(tmp_path, "no known ending")
    refused(tmp_path / "unknown.pth", "not recognised")
    refused(tmp_path / "list.pth", "holds a list")


def test_networks_that_do_not_enlarge_frames_are_refused(tmp_path):
    torch.save(compact(1).state_dict(), tmp_path / "one.pth")
    refused(tmp_path / "one.pth", "does not enlarge")
    refused(onnx_file(tmp_path / "same.onnx", 1.0), "maps .* to")
    refused(onnx_file(tmp_path / "range.onnx", offset=100.0), "does not keep grey")
    refused(onnx_file(tmp_path / "wide.onnx", channels=4), "export it for single RGB frames")
    refused(onnx_file(tmp_path / "batch.onnx", batch=8), "export it for single RGB frames")


def test_data_outside_the_folder_is_refused(tmp_path):
    import onnx

    model = onnx.load(onnx_file(tmp_path / "sr.onnx"))
    weight = model.graph.initializer[0]
    weight.ClearField("float_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../outside.bin")
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "outside.bin").write_bytes(torch.tensor([1.0, 1.0, 2.0, 2.0]).numpy().tobytes())
    (inside / "sr.onnx").write_bytes(model.SerializeToString())
    refused(inside / "sr.onnx", "is not an ONNX file that can be read")


def test_values_that_are_no_numbers_are_an_error(tmp_path):
    net = compact()
    with torch.no_grad():
        net.body[0].bias.fill_(float("nan"))
    torch.save(net.state_dict(), tmp_path / "nan.pth")
    with pytest.raises(AuditError, match="finite"):
        enhancer_from(tmp_path / "nan.pth")(CLIP)


def test_bicubic_is_the_scale_that_is_compared(tmp_path):
    enhance = enhancer_from(onnx_file(tmp_path / "sr.onnx"))
    assert bicubic(CLIP, enhance.scale).clip.shape == enhance(CLIP).clip.shape
