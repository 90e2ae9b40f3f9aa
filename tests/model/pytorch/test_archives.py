"""Files that run code when they are read: refused, with the line that saves their weights, or read where trusted."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from archived_net import BATCH, CLIP, Net, archive, net
from refusals import fails

from auditor.errors import NotAuditable, UsageError
from auditor.model import first_input, load

KINDS = ("exported", "torchscript", "pickle")
MODES = ("exported", "exported-dynamic", "exported-train", "scripted", "traced", "pickle")


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("archives")
    return {mode: archive(net(), mode, folder / f"{mode}.onnx") for mode in MODES}


@pytest.fixture
def clips() -> torch.Tensor:
    return torch.rand(3, *(CLIP[i] for i in (1, 0, 2, 3)), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("mode", ["exported", "scripted", "pickle"])
def test_refused_with_the_line_that_saves_the_weights(mode, archives, tmp_path) -> None:
    path = archives[mode]
    text = fails(NotAuditable, "code when loaded", "--trust-model", source=str(path))
    line = text[text.index("python -c") : text.index(", and give path/file.py")]
    here = os.pathsep.join(p for p in sys.path if p)
    command = [sys.executable, "-W", "ignore", *shlex.split(line)[1:]]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": here}, check=True, timeout=120)
    (tmp_path / "f.py").write_text("from archived_net import Net\n")
    loaded = load(f"{tmp_path / 'f.py'}:Net", weights=tmp_path / "weights.pt", input_shape=CLIP)
    original = net()
    assert all(torch.equal(value, loaded.parameters[name]) for name, value in original.named_parameters())


@pytest.mark.parametrize("mode", MODES)
def test_trusted(mode, archives, clips) -> None:
    shape = None if mode.startswith("exported") else CLIP
    target = load(str(archives[mode]), trust_model=True, input_shape=shape)
    original = net()
    expected = original(clips.transpose(1, 2))
    names = [name for name, _ in original.named_parameters()]
    torch.testing.assert_close(target.model(clips), expected)
    assert target.format == {"scripted": "torchscript", "traced": "torchscript", "pickle": "pickle"}.get(
        mode, "exported"
    )
    assert [name for name, _ in target.model.named_parameters()] == names
    assert [(layer.name, layer.kind) for layer in target.layers] == [
        ("conv", "conv3d"), ("norm", "norm"), ("scale", "other"), ("head", "linear"),
    ]  # fmt: skip
    assert target.fidelity.double_backward
    assert target.fidelity.gradient_check is not None
    assert target.fidelity.gradient_check < 1e-5
    ours = gradients(target.model(clips), list(target.model.parameters()))
    theirs = gradients(expected, list(original.parameters()))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
    assert target.fidelity.origin != ""
    assert sum(target.operators.values()) > 3


def gradients(logits: torch.Tensor, parameters: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return the gradients of a loss, and of their own squared norm."""
    loss = logits.square().sum()
    first = torch.autograd.grad(loss, parameters, create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), parameters)
    return [*first, *second]


@pytest.mark.parametrize("mode", MODES)
def test_batch_statistics(mode, archives, clips) -> None:
    target = load(str(archives[mode]), trust_model=True, input_shape=CLIP)
    before = {name: value.clone() for name, value in target.model.named_buffers()}
    if mode == "traced":
        assert target.fidelity.batchnorm == "fixed"
        with pytest.raises(UsageError, match="--bn train"):
            target.model.batchnorm("train")
        return
    assert target.fidelity.batchnorm == "kept"
    original = net()
    evaluated = target.model(clips)
    target.model.batchnorm("train")
    original.norm.train()
    torch.testing.assert_close(target.model(clips), original(clips.transpose(1, 2)))
    target.model.batchnorm("eval")
    torch.testing.assert_close(target.model(clips), evaluated)
    assert all(torch.equal(before[name], value) for name, value in target.model.named_buffers())


def test_batches_of_an_exported_program(archives) -> None:
    load_one = {mode: load(str(archives[mode]), trust_model=True) for mode in ("exported", "exported-dynamic")}
    assert load_one["exported"].fidelity.batch == "unfrozen"
    assert load_one["exported-dynamic"].fidelity.batch == "dynamic"
    assert load_one["exported"].input.clip_shape == (CLIP[1], CLIP[0], *CLIP[2:])


def test_an_exported_batch_that_cannot_be_released(tmp_path, clips) -> None:
    path = archive(net(Net(fold=BATCH)), "exported", tmp_path / "m.pt2")
    target = load(str(path), trust_model=True)
    assert target.fidelity.batch == f"frozen at {BATCH}"
    assert any(f"parts of {BATCH}" in note for note in target.fidelity.notes)
    assert target.model(clips).shape == (3, 6)


def test_a_traced_batch_that_cannot_be_released(tmp_path, clips) -> None:
    whole = net(Net(fold=0))
    path = archive(whole, "traced", tmp_path / "m.pt")
    target = load(str(path), trust_model=True, input_shape=CLIP)
    assert target.fidelity.batch == "frozen at 1"
    expected = torch.cat([whole(clip[None].transpose(1, 2)) for clip in clips])
    torch.testing.assert_close(target.model(clips), expected)


def test_dropout_of_a_program_in_training_mode(archives, clips) -> None:
    target = load(str(archives["exported-train"]), trust_model=True)
    assert any("dropout" in note for note in target.fidelity.notes)
    torch.testing.assert_close(target.model(clips), target.model(clips))


def test_what_does_not_apply(archives, tmp_path) -> None:
    fails(UsageError, "--arg does not apply", source=str(archives["pickle"]), trust_model=True, arg=(("a", 1),))
    torch.save({"a": net(), "b": net()}, tmp_path / "two.pt")
    fails(NotAuditable, "holds 2 modules (a, b)", source=str(tmp_path / "two.pt"), trust_model=True)
    torch.save(net().state_dict(), tmp_path / "w.pt")
    fails(NotAuditable, "without an architecture", source=str(tmp_path / "w.pt"), trust_model=True)
    fails(UsageError, "the size of a clip is unknown", source=str(archives["scripted"]), trust_model=True)


def test_one_module_of_a_checkpoint(tmp_path, clips) -> None:
    torch.save({"model": net(), "epoch": 3}, tmp_path / "m.pt")
    target = load(str(tmp_path / "m.pt"), trust_model=True, input_shape=CLIP)
    torch.testing.assert_close(target.model(clips), net()(clips.transpose(1, 2)))
    assert any("'model' of the checkpoint" in note for note in target.fidelity.notes)


class Runs:
    """Leaves a folder behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("new", [True, False])
def test_a_malicious_pickle_does_nothing(new, tmp_path) -> None:
    left = tmp_path / "left"
    torch.save(Runs(left), tmp_path / "m.pt", _use_new_zipfile_serialization=new)
    fails(NotAuditable, "runs code when loaded", source=str(tmp_path / "m.pt"))
    assert not left.exists()


@pytest.mark.parametrize("mode", ["exported", "scripted", "pickle"])
def test_damaged_archives(mode, archives, tmp_path) -> None:
    path = tmp_path / "m.pt"
    content = archives[mode].read_bytes()
    path.write_bytes(content[: len(content) // 2])
    fails(NotAuditable, "damaged", source=str(path), trust_model=True)
    scrambled = bytearray(content)
    for place in range(200, len(content) - 2000, 37):
        scrambled[place] ^= 0x55
    path.write_bytes(bytes(scrambled))
    with pytest.raises((NotAuditable, UsageError)) as caught:
        load(str(path), trust_model=True, input_shape=CLIP)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", ["scripted", "traced", "exported"])
@pytest.mark.parametrize("parameter", ["conv.weight", "head.weight"])
def test_what_a_layer_of_an_archive_reads_is_seen(mode, parameter, archives, clips) -> None:
    """TorchScript turns the exception that ends the pass early into one of its own."""
    shape = None if mode == "exported" else CLIP
    target = load(str(archives[mode]), trust_model=True, input_shape=shape)
    x = first_input(target.model, parameter, clips)
    original = net()
    hidden = original.gate(original.norm(original.conv(clips.transpose(1, 2)))).mean((2, 3, 4)) * original.scale
    assert x is not None
    torch.testing.assert_close(x, clips.transpose(1, 2) if parameter == "conv.weight" else hidden.detach())


@pytest.mark.filterwarnings("ignore")
def test_a_quantised_archive_is_told_as_such(tmp_path) -> None:
    net = torch.nn.Sequential(torch.nn.Conv3d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4 * 2 * 36, 5)).eval()
    packed = torch.ao.quantization.quantize_dynamic(net, {torch.nn.Linear})
    torch.jit.script(packed).save(tmp_path / "packed.ts")
    source, shape = str(tmp_path / "packed.ts"), (3, 4, 8, 8)
    fails(NotAuditable, "quantised", "float model", source=source, trust_model=True, input_shape=shape)


def test_an_archive_that_fails_by_itself_fails(archives, clips) -> None:
    target = load(str(archives["scripted"]), trust_model=True, input_shape=CLIP)
    with pytest.raises(RuntimeError):
        first_input(target.model, "head.weight", clips[..., :1, :1])
