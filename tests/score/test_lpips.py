"""LPIPS against a second implementation, on random weights in the form that the lpips package saves."""

import math
import zipfile

import pytest
import torch
from torch import nn

from auditor.errors import UsageError
from auditor.score.lpips import Lpips

NAMES = ("slice1.0", "slice2.3", "slice3.6", "slice4.8", "slice5.10")
CHANNELS = (64, 192, 384, 256, 256)


def alexnet():
    """The convolutions of AlexNet as torchvision builds them."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = alexnet().requires_grad_(False)
        linear = [torch.rand(1, c, 1, 1) for c in CHANNELS]
    convolutions = [m for m in net if isinstance(m, nn.Conv2d)]
    state = {f"net.{n}.{k}": v for n, m in zip(NAMES, convolutions, strict=True) for k, v in m.state_dict().items()}
    state |= {f"lin{i}.model.1.weight": weight for i, weight in enumerate(linear)}
    path = tmp_path_factory.mktemp("lpips") / "lpips.pt"
    torch.save(state, path)
    return path, state, net, linear


def test_it_agrees_with_the_formula_in_another_form(saved):
    path, _, net, linear = saved
    a, b = torch.rand(2, 2, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    mean = (1 + torch.tensor([-0.030, -0.088, -0.188])) / 2  # of pixels in [0, 1]
    deviation = torch.tensor([0.458, 0.448, 0.450]) / 2

    def taps(clip):
        x, found = (clip - mean[:, None, None]) / deviation[:, None, None], []
        for module in net:
            x = module(x)
            if isinstance(module, nn.ReLU):
                found.append(nn.functional.normalize(x.double(), dim=1))
        return found

    expected = 0.0
    for x, y, weight in zip(taps(a), taps(b), linear, strict=True):
        expected += float(torch.einsum("fchw,c->fhw", (x - y) ** 2, weight.double().flatten()).mean())
    assert Lpips(path)(a, b) == pytest.approx(expected, rel=1e-4)


def test_equal_clips_small_clips_and_what_diverged(saved):
    measure = Lpips(saved[0])
    small = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert measure(small, small) == 0.0
    assert 0.0 < measure(small, 0.9 * small) < measure(small, 1 - small)
    assert measure(small, small * math.nan) == pytest.approx(measure(small, torch.full_like(small, 0.5)))
    with pytest.raises((ValueError, TypeError), match=r"shapes differ|Type-check error"):
        measure(small, small[:1])


def broken_files(folder, state):
    (folder / "text.pt").write_text("no weights")
    torch.save([1, 2], folder / "list.pt")
    torch.save({k: v for k, v in state.items() if not k.startswith("lin2")}, folder / "part.pt")
    torch.save(state | {"net.slice1.0.bias": torch.full((64,), math.nan)}, folder / "nan.pt")
    torch.save(state | {"net.slice1.0.bias": torch.zeros(64).to_sparse()}, folder / "sparse.pt")
    torch.save(state | {"net.slice1.0.bias": torch.zeros(64, dtype=torch.complex64)}, folder / "complex.pt")
    # A call that the unpickler allows, with an argument that it does not: OrderedDict(1).
    with zipfile.ZipFile(folder / "list.pt") as source, zipfile.ZipFile(folder / "odd.pt", "w") as archive:
        for name in source.namelist():
            content = b"\x80\x02ccollections\nOrderedDict\n(K\x01tR."
            archive.writestr(name, content if name.endswith("data.pkl") else source.read(name))
    return ("absent.pt", "text.pt", "list.pt", "part.pt", "nan.pt", "sparse.pt", "complex.pt", "odd.pt")


def test_what_is_no_such_file_is_refused_in_one_line_with_a_remedy(saved, tmp_path):
    for name in broken_files(tmp_path, saved[1]):
        with pytest.raises(UsageError) as error:
            Lpips(tmp_path / name)
        assert name in error.value.cause
        assert "lpips.LPIPS(net='alex')" in error.value.remedy
        assert "\n" not in error.value.cause
