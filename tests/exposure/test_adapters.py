"""Low-rank adapters: what their factors' gradients span is what is said of them, and peft's files are matched."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

import auditor
from auditor.cli.main import app
from auditor.exposure import closed_form_flags
from auditor.federated import LocalClient
from auditor.probe import shipped_probes
from auditor.records import FederatedProtocol, Target

NETS = """
import torch
from torch import nn

class LoraLinear(nn.Module):
    # Named as peft names them.
    def __init__(self, width, rank):
        super().__init__()
        self.base_layer = nn.Linear(width, width)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(width, rank, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(rank, width, bias=False)})
        nn.init.normal_(self.lora_B["default"].weight, std=0.05)

    def forward(self, x):
        return self.base_layer(x) + self.lora_B["default"](self.lora_A["default"](x))

class Net(nn.Module):
    def __init__(self, rank):
        super().__init__()
        self.embed = nn.Conv3d(3, 32, (2, 4, 4), (2, 4, 4))
        self.norm = nn.LayerNorm(32)
        self.query = LoraLinear(32, rank)
        self.head = nn.Linear(32, 6)
        for name, parameter in self.named_parameters():
            parameter.requires_grad_("lora_" in name)

    def forward(self, x):
        tokens = self.norm(self.embed(x).flatten(2).transpose(1, 2))
        return self.head(torch.tanh(self.query(tokens)).mean(1))

def net(rank=8):
    torch.manual_seed(0)
    return Net(int(rank))
"""
A, B = "query.lora_A.default.weight", "query.lora_B.default.weight"
# 2 x 2 x 2 patches of 2x4x4 in a clip of 4x8x8.
TOKENS = 8


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path


def read(rank: int) -> Target:
    return auditor.load("nets.py:net", arg={"rank": rank}, input_shape=(3, 4, 8, 8), layout="NCTHW", device="cpu")


def seen(target: Target, clips: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return what the factors read, (row, width), by a hook of the test's own, and the gradient of the factors."""
    # In double precision: tokens behind a norm are much alike, and rounding would hide what tells them apart.
    batch = torch.stack([p.clip for p in shipped_probes(target.input)[:clips]]).double()
    rows: list[torch.Tensor] = []
    model = target.model
    assert isinstance(model, nn.Module)
    model.double()
    handle = dict(model.named_modules())["query.lora_A.default"].register_forward_hook(
        lambda module, inputs, output: rows.append(inputs[0].detach().flatten(0, -2))
    )
    client = LocalClient(target.model, FederatedProtocol(batch=clips, sent=(A, B)))
    gradients = client(batch, torch.arange(clips))
    handle.remove()
    return rows[0].double(), {name: g.double() for name, g in gradients.items()}


def flags(target: Target, clips: int = 1) -> dict[str, str]:
    protocol = FederatedProtocol(batch=clips, sent=(A, B))
    found = closed_form_flags(target.layers, protocol, target.classes, target.parameters)
    return {
        layer.parameters[0]: " ".join(found[layer.index]) for layer in target.layers if layer.parameters[0] in (A, B)
    }


def directions(rows: torch.Tensor) -> torch.Tensor:
    """Return an orthonormal basis of what rows span, one direction a row."""
    _, sizes, basis = torch.linalg.svd(rows, full_matrices=False)
    return basis[sizes > 1e-9 * sizes[0]]


def outside(directions_of: torch.Tensor, span: torch.Tensor) -> float:
    """Return which share of the directions that some rows span lies outside of what others span."""
    ours, theirs = directions(directions_of), directions(span)
    return float((ours - ours @ theirs.T @ theirs).square().sum() / len(ours))


@pytest.mark.parametrize(("rank", "clips", "whole"), [(8, 1, True), (12, 1, True), (4, 1, False), (8, 2, False)])
def test_the_first_factor_spans_its_inputs_exactly_where_it_is_said_to(here, rank, clips, whole):
    target = read(rank)
    rows, gradients = seen(target, clips)
    assert len(rows) == TOKENS * clips
    assert outside(gradients[A], rows) < 1e-6  # in any case
    missed = outside(rows, gradients[A])
    if whole:
        assert missed < 1e-6
        assert f"its rows span all that its {TOKENS} inputs span, exactly" in flags(target)[A]
    else:
        assert missed == pytest.approx(1.0 - rank / (TOKENS * clips), abs=1e-6)
        assert f"fill at most {rank} directions" in flags(target, clips)[A]


def test_the_second_factor_shows_what_the_first_makes_of_its_inputs(here):
    target = read(4)
    rows, gradients = seen(target, 1)
    reduced = rows @ target.parameters[A].detach().double().T
    # dB = dW A^T: all that its rows say of the inputs is in the rank directions that A keeps.
    assert outside(gradients[B], reduced) < 1e-6
    assert len(directions(gradients[B])) == 4
    assert "4 of 32 numbers of every row" in flags(target)[B]


def test_a_factor_that_begins_at_zero_hides_the_other(here):
    (here / "nets.py").write_text(
        NETS.replace("nn.init.normal_(self.lora_B", "nn.init.zeros_(self.lora_B").replace(", std=0.05", "")
    )
    target = read(8)
    _, gradients = seen(target, 1)
    assert float(gradients[A].norm()) == 0.0 < float(gradients[B].norm())
    assert "its gradient is zero, as the second factor is" in flags(target)[A]


def test_adapters_as_peft_saves_them_are_matched_and_replayed(here):
    target = read(8)
    _, gradients = seen(target, 1)
    saved = {
        f"base_model.model.{name.replace('.default', '')}": g.float().contiguous() for name, g in gradients.items()
    }
    save_file(saved, "adapter_model.safetensors")
    clip = shipped_probes(target.input)[0]
    np.savez("clip.npz", clip=clip.clip.numpy())
    choices = ["nets.py:net", "--input-shape", "3,4,8,8", "--layout", "NCTHW", "--device", "cpu", "--clip", "clip.npz"]
    ran = CliRunner().invoke(
        app, ["replay", *choices, "--update", "adapter_model.safetensors", "--label", "0", "--json"]
    )
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert [(m["name"], m["how"]) for m in found["update"]["matched"]] == [(A, "renamed"), (B, "renamed")]
    assert found["difference"] < 1e-5


PROMPTS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Conv3d(3, 32, (2, 4, 4), (2, 4, 4))
        self.prompt_embeddings = nn.Parameter(0.1 * torch.randn(1, 3, 32))
        self.block = nn.TransformerEncoderLayer(32, 4, 48, 0.0, "gelu", batch_first=True, norm_first=True)
        self.head = nn.Linear(32, 6)

    def forward(self, x):
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        return self.head(self.block(torch.cat([self.prompt_embeddings.expand(len(x), -1, -1), tokens], 1)).mean(1))

def net():
    torch.manual_seed(0)
    return Net()
"""


PROMPT = "prompt_embeddings"


def test_prompts_mix_all_tokens_and_span_none(here):
    """Rows of a LoRA factor lie in the span of 8 tokens among 32 directions; rows of prompts lie mostly outside."""
    (here / "nets.py").write_text(PROMPTS)
    target = auditor.load("nets.py:net", input_shape=(3, 4, 8, 8), layout="NCTHW", device="cpu")
    (layer,) = (layer for layer in target.layers if PROMPT in layer.parameters)
    protocol = FederatedProtocol(sent=(PROMPT,))
    said = closed_form_flags(target.layers, protocol, target.classes, target.parameters)[layer.index]
    assert said[0].startswith("its gradient is 96 numbers, 32 for each of 3 learned tokens; through attention")
    clips = shipped_probes(target.input)[0].clip[None].double()
    model = target.model.double()
    tokens = model.embed(clips.transpose(1, 2)).detach().flatten(2)[0].T
    gradient = LocalClient(model, protocol)(clips, torch.tensor([1]))[PROMPT]
    assert len(directions(gradient[0])) == 3
    assert outside(gradient[0], tokens) > 0.3
    assert closed_form_flags(target.layers, FederatedProtocol(sent=()), 6, target.parameters)[layer.index] == ()
