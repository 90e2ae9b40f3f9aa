"""Networks that compute in 16 bits: read, told, and no shelter from what an update gives away."""

import pytest

import auditor
from auditor.model import load

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    input_shape, layout = (3, 4, 8, 8), "NCTHW"

    def __init__(self, form):
        super().__init__()
        torch.manual_seed(0)
        self.form, self.first, self.head = form, nn.Linear(768, 16), nn.Linear(16, 5)

    def body(self, x): return self.head(self.first(((x - 0.45) / 0.225).flatten(1)).relu())

    def forward(self, x):
        if self.form in ("bfloat16", "float16"):
            with torch.autocast("cpu", getattr(torch, self.form)):
                return self.body(x)
        if self.form == "cuda":
            with torch.autocast(device_type="cuda", dtype=torch.float16):
                return self.body(x).float()
        if self.form == "decorated":
            return self.decorated(x)
        return self.body(x.bfloat16().float() if self.form == "cast" else x)

    @torch.autocast("cpu", torch.bfloat16)
    def decorated(self, x): return self.body(x)

def net(form): return Net(form)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("halves") / "nets.py"
    path.write_text(NETS)
    return f"{path}:net"


@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.parametrize(
    ("form", "words", "least"),
    [
        ("bfloat16", "computes in bfloat16", 50),
        ("decorated", "computes in bfloat16", 50),
        ("cast", "computes in bfloat16", 50),
        ("float16", "computes in float16", 65),
        ("cuda", "", 100),  # torch disables it here
        ("plain", "", 100),
    ],
)
def test_half_precision_is_told_and_hides_no_clip(form, words, least, source) -> None:
    fidelity = load(source, arg=(("form", form),)).fidelity
    assert fidelity.blind == ()
    assert [words in note for note in fidelity.notes] == ([True] if words else [])
    found = auditor.attack(source, arg=(("form", form),), attack="linear-input")
    assert found.score is not None
    assert found.score.psnr > least
