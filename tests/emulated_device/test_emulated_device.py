"""The emulated device computes what the CPU does, and is as strict as a GPU."""

import copy

import pytest
import torch
from torch import nn

import emulated_device
from auditor.errors import UsageError
from auditor.pipeline.scan import choose_device
from emulated_device import NAME, RefusedError, counted, kernels
from emulated_device.memory import on_device

DEVICE = emulated_device.device()


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.TransformerEncoderLayer(12, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(12, 5)

    def forward(self, x):
        return self.head(self.block(x.flatten(2).transpose(1, 2)[..., :12].repeat(1, 1, 4)).mean(1))


class Gates(nn.Module):
    def __init__(self, kind) -> None:
        super().__init__()
        self.rnn, self.head = kind(12, 6, batch_first=True), nn.Linear(6, 5)

    def forward(self, x):
        return self.head(self.rnn(x.flatten(2).transpose(1, 2).reshape(2, -1, 12))[0][:, -1])


NETS = {
    "convolutions, BatchNorm, pools": lambda: nn.Sequential(
        nn.Conv3d(3, 4, 3, padding=1), nn.BatchNorm3d(4), nn.GELU(), nn.MaxPool3d(2), nn.Flatten(), nn.Linear(128, 5)
    ),
    "attention": Attention,
    "GRU": lambda: Gates(nn.GRU),
    "LSTM": lambda: Gates(nn.LSTM),
}


@pytest.mark.parametrize("kind", NETS)
def test_second_derivatives_are_the_cpus(kind):
    torch.manual_seed(0)
    net, clips = NETS[kind](), torch.rand(2, 3, 4, 8, 8)

    def matched(device):
        there, x = copy.deepcopy(net).to(device), clips.to(device).requires_grad_()
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            loss = nn.functional.cross_entropy(there(x), torch.tensor([0, 1], device=device))
            gradients = torch.autograd.grad(loss, list(there.parameters()), create_graph=True)
            return torch.autograd.grad(sum(g.square().sum() for g in gradients), x)[0]

    found = matched(DEVICE)
    assert found.device.type == NAME
    torch.testing.assert_close(found.cpu(), matched("cpu"), rtol=1e-4, atol=1e-7)


MATHS = {
    "svd": lambda m: torch.linalg.svd(m)[1],
    "qr": lambda m: torch.linalg.qr(m)[1].abs(),
    "eigh": lambda m: torch.linalg.eigh(m @ m.T)[0],
    "cholesky": lambda m: torch.linalg.cholesky(m @ m.T + torch.eye(len(m), device=m.device)),
    "solve": lambda m: torch.linalg.solve(m @ m.T, m),
    "lstsq": lambda m: torch.linalg.lstsq(m.T, m.T).solution,
    "fft": lambda m: torch.fft.irfftn(torch.fft.rfftn(m).conj()),
    "vmap": lambda m: torch.func.vmap(lambda row: row.square().sum())(m),
    "jvp": lambda m: torch.func.jvp(lambda a: (a @ a.T).exp().sum(), (0.1 * m,), (m,))[1],
    "imaginary parts": lambda m: torch.fft.fft(m).conj().imag * 2.0,
    "views and writes": lambda m: m.clone().t()[1:].add_(1.0).reshape(-1).roll(1),
    "out of place": lambda m: torch.where(m > 0, m, 0.0).sort(dim=1).values,
}


@pytest.mark.filterwarnings("ignore:.torch.jit.script.:FutureWarning")
@pytest.mark.parametrize("name", MATHS)
def test_it_computes_what_the_cpu_does(name):
    m = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(MATHS[name](m.to(DEVICE)).cpu(), MATHS[name](m))


def test_writing_through_a_view_changes_what_it_is_a_view_of():
    x = torch.zeros(2, 3).to(DEVICE)
    x.t()[1] = 2.0
    x[0].add_(1.0)
    assert x.tolist() == [[1.0, 3.0, 1.0], [0.0, 2.0, 0.0]]


REFUSED = {
    "two devices in a sum": lambda d, c: d + c,
    "two devices in a product": lambda d, c: d @ c.T,
    "two devices in a list": lambda d, c: torch.cat([d, c]),
    "an index of the CPU": lambda d, c: d[torch.tensor([0])],
    "a write to the CPU": lambda d, c: c.__setitem__(0, d[0]),
    "a write from the CPU": lambda d, c: d.__setitem__(0, c[0]),
    "a generator of the CPU": lambda d, c: torch.rand(2, generator=torch.Generator(), device=d.device),
    "a driver of the CPU": lambda d, c: torch.linalg.lstsq(d, d, driver="gelsd"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_devices_do_not_mix(kind):
    with pytest.raises(RefusedError):
        REFUSED[kind](torch.ones(2, 3).to(DEVICE), torch.ones(2, 3))


def test_there_is_no_way_out_but_the_explicit_one():
    with pytest.raises(TypeError, match="can't convert"):
        torch.ones(2).to(DEVICE).numpy()
    assert torch.ones(2).to(DEVICE).cpu().numpy().tolist() == [1.0, 1.0]
    assert float((torch.ones(2).to(DEVICE) + torch.tensor(1.0)).sum()) == 4.0  # one number goes along, as on a GPU


def test_what_crosses_and_what_waits_is_counted():
    with counted() as traffic:
        x = torch.ones(4).to(DEVICE)
        y = (x * 2.0).sum()
    assert (traffic.to_device, traffic.to_processor, traffic.waits) == (1, 0, 0)
    for wait in (y.item, y.__bool__, x.tolist, x.nonzero, x.cpu, lambda: x[x > 0]):
        with counted() as traffic:
            wait()
        assert traffic.waits == 1, wait


def test_a_device_without_float64_is_refused(monkeypatch):
    def short(tensor):
        if tensor.dtype == torch.float64:  # in MPS's words
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        return on_device(tensor)

    assert choose_device(NAME) == DEVICE
    monkeypatch.setattr(kernels, "on_device", short)
    with pytest.raises(UsageError, match="has no float64, which most attacks need; use --device cpu"):
        choose_device(NAME)
