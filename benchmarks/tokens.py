"""Token spans over video transformers without learned positions: own nets and transformers', fresh and trained.

Usage: python benchmarks/tokens.py [--nets NAME ...] [--clips NAME ...] [--trained 0] [--seconds 600] [--json]
       python benchmarks/tokens.py --certificates 100

The first form runs every net on every clip and prints how many dB came out, beside the certificate. The second makes
many small runs, four of five with a null (half of another clip's update, noise in place of the gradient, wrong labels,
spans cut short), and counts certified results whose picture is wrong: there must be none.
"""

import argparse
import json
import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peers import CLASSES, LABEL, clip_of, view_of
from torch import Tensor, nn
from torch.nn import functional as F

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from auditor.attack.closed_form.token_spans import TokenSpans  # noqa: E402
from auditor.records import Budget, InputSpec, Outcome, Reconstruction, Update, View  # noqa: E402
from auditor.score import psnr  # noqa: E402

CLIPS = ["park_walker", "city_night", "treadmill_one", "park_jump", "hand_cup"]
ACTS = {
    "gelu": F.gelu,
    "tanh-gelu": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "quick-gelu": lambda x: x * torch.sigmoid(1.702 * x),
}


def sines(count: int, width: int) -> Tensor:
    """Return sines and cosines of a place in a row, as Vaswani et al. 2017."""
    angle = torch.arange(count)[:, None] / 10_000 ** (torch.arange(width) // 2 * 2 / width)
    return torch.where(torch.arange(width) % 2 == 0, angle.sin(), angle.cos())


def separable(grid: tuple[int, int, int], width: int) -> Tensor:
    """Return a table whose features are split among frame, row and column, each with sines of its own."""
    part = width // 3 // 2 * 2
    sizes = (width - 2 * part, part, part)
    parts = [
        sines(n, size).reshape([n if a == axis else 1 for a in range(3)] + [size]).expand(*grid, size)
        for axis, (n, size) in enumerate(zip(grid, sizes, strict=True))
    ]
    return torch.cat(parts, -1).reshape(-1, width)


class Block(nn.Module):
    """Attention and hidden units, norms before or behind."""

    def __init__(self, d: int, heads: int, ratio: float, act: str, post: bool, bias: bool, affine: bool, eps: float):
        super().__init__()
        self.heads, self.act, self.post = heads, ACTS[act], post
        self.norm1, self.norm2 = (nn.LayerNorm(d, eps=eps, elementwise_affine=affine) for _ in range(2))
        self.qkv, self.out = nn.Linear(d, 3 * d, bias=bias), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, int(ratio * d)), nn.Linear(int(ratio * d), d)

    def attend(self, z: Tensor) -> Tensor:
        """Return what tokens read of each other."""
        b, n, d = z.shape
        q, k, v = self.qkv(z).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        weight = (q @ k.transpose(-1, -2) * (d // self.heads) ** -0.5).softmax(-1)
        return self.out((weight @ v).transpose(1, 2).reshape(b, n, d))

    def forward(self, z: Tensor) -> Tensor:
        if self.post:
            z = self.norm1(z + self.attend(z))
            return self.norm2(z + self.down(self.act(self.up(z))))
        z = z + self.attend(self.norm1(z))
        return z + self.down(self.act(self.up(self.norm2(z))))


class Vit(nn.Module):
    """A video transformer with a table of positions that is fixed or frozen."""

    def __init__(
        self, spec: InputSpec, *, d: int = 192, tubelet: tuple[int, int, int] = (2, 16, 16), depth: int = 2,
        heads: int = 3, ratio: float = 4.0, act: str = "gelu", post: bool = False, bias: bool = True,
        affine: bool = True, eps: float = 1e-6, token: bool = False, table: str = "sines", std: float = 0.02,
    ) -> None:  # fmt: skip
        super().__init__()
        grid = tuple(n // k for n, k in zip((spec.frames, spec.height, spec.width), tubelet, strict=True))
        count = grid[0] * grid[1] * grid[2]
        self.embed = nn.Conv3d(3, d, tubelet, tubelet)
        made = {
            "sines": lambda: sines(count, d),
            "separable": lambda: separable((grid[0], grid[1], grid[2]), d),
            "frozen": lambda: 0.02 * torch.randn(count, d),
        }[table]()
        self.register_buffer("table", made)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, d)) if token else None
        self.blocks = nn.Sequential(*(Block(d, heads, ratio, act, post, bias, affine, eps) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, CLASSES)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=std)

    def forward(self, x: Tensor) -> Tensor:
        z = self.embed(x).flatten(2).transpose(1, 2) + self.table
        if self.token is not None:
            z = torch.cat([self.token.expand(len(z), -1, -1), z], 1)
        z = self.norm(self.blocks(z))
        return self.head(z[:, 0] if self.token is not None else z.mean(1))


class Frames(nn.Module):
    """A net of transformers as (batch, channel, frame, height, width) to logits."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(pixel_values=x.transpose(1, 2)).logits


def published(name: str, spec: InputSpec, d: int, depth: int = 4) -> nn.Module:
    """Return a net of transformers built from a configuration; its position tables are drawn and frozen."""
    import transformers

    config, net = getattr(transformers, name + "Config"), getattr(transformers, name + "ForVideoClassification")
    same = {
        "image_size": spec.height, "num_frames": spec.frames, "hidden_size": d, "num_attention_heads": d // 64,
        "intermediate_size": 4 * d, "num_hidden_layers": depth, "num_labels": CLASSES,
    }  # fmt: skip
    made = net(config(**same, **({"tubelet_size": [2, 16, 16]} if name == "Vivit" else {})))
    for key, value in made.named_parameters():
        if "position_embeddings" in key or "time_embeddings" in key:
            nn.init.normal_(value, std=0.02)
            value.requires_grad_(False)
    return Frames(made)


def _spec(frames: int, size: int) -> InputSpec:
    return InputSpec(frames=frames, channels=3, height=size, width=size, layout="NCTHW")


S64, S32x4, S112 = _spec(8, 64), _spec(4, 64), _spec(8, 112)
NETS = {
    "own N 32 d 192": (S32x4, lambda s: Vit(s)),
    "own N 64 d 192": (S64, lambda s: Vit(s)),
    "own N 64 d 384": (S64, lambda s: Vit(s, d=384, heads=6)),
    "own separable N 64 d 384": (S64, lambda s: Vit(s, d=384, heads=6, table="separable")),
    "own frozen N 64 d 384": (S64, lambda s: Vit(s, d=384, heads=6, table="frozen")),
    "own class token N 64 d 384": (S64, lambda s: Vit(s, d=384, heads=6, depth=4, token=True)),
    "own post-norm N 64 d 384": (S64, lambda s: Vit(s, d=384, heads=6, post=True)),
    "own relu N 64 d 384": (S64, lambda s: Vit(s, d=384, heads=6, act="relu")),
    "own quick-gelu without biases N 64 d 384": (
        S64, lambda s: Vit(s, d=384, heads=6, act="quick-gelu", bias=False, affine=False)
    ),
    "own N 196 d 384": (S112, lambda s: Vit(s, d=384, heads=6)),
    "own N 196 d 768": (S112, lambda s: Vit(s, d=768, heads=12)),
    "own separable N 196 d 768": (S112, lambda s: Vit(s, d=768, heads=12, table="separable")),
    "VideoMAE N 64 d 384": (S64, lambda s: published("VideoMAE", s, 384)),
    "VideoMAE N 196 d 768": (S112, lambda s: published("VideoMAE", s, 768)),
    "ViViT N 64 d 384": (S64, lambda s: published("Vivit", s, 384)),
    "ViViT N 196 d 768": (S112, lambda s: published("Vivit", s, 768)),
    "TimeSformer N 64 d 384": (S32x4, lambda s: published("Timesformer", s, 384)),
    "TimeSformer N 128 d 384": (S64, lambda s: published("Timesformer", s, 384)),
}  # fmt: skip


def trained(net: nn.Module, spec: InputSpec, steps: int) -> nn.Module:
    """Train on shipped clips, flipped and dimmed at random, as many classes as clips."""
    clips = torch.stack([clip_of(name, spec) for name in CLIPS]).transpose(1, 2)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=3e-4)
    for _ in range(steps):
        which = torch.randint(len(clips), (4,), generator=generator)
        x = clips[which] * (0.7 + 0.3 * torch.rand(4, 1, 1, 1, 1, generator=generator))
        x = x.flip(-1) if float(torch.rand((), generator=generator)) < 0.5 else x
        optimizer.zero_grad()
        F.cross_entropy(net(x), which).backward()
        optimizer.step()
    return net


def case(name: str, clip_name: str, steps: int, seconds: float) -> dict[str, object]:
    """Attack one net on one clip."""
    spec, make = NETS[name]
    torch.manual_seed(0)
    net = trained(make(spec).eval(), spec, steps).eval()
    clip = clip_of(clip_name, spec)
    view = view_of(net, clip, spec)
    begun, used = time.monotonic(), time.process_time()
    made = TokenSpans().invert(view, Budget(seconds=seconds, steps=0), 0)
    row: dict[str, object] = {
        "net": name, "clip": clip_name, "trained": steps,
        "seconds": round(time.monotonic() - begun, 1), "cpu": round(time.process_time() - used, 1),
    }  # fmt: skip
    if isinstance(made, Reconstruction):
        reached = float(psnr(clip, made.clips[0]))
        return row | {"psnr": round(reached, 1), "outcome": made.outcome.name, "notes": made.notes, **made.certificate}
    return row | {"skipped": made.reason}


def _mixed(view: View, other: View, generator: torch.Generator) -> dict[str, Tensor]:
    theirs = other.update.gradients
    return {
        n: theirs[n] if float(torch.rand((), generator=generator)) < 0.5 else g
        for n, g in view.update.gradients.items()
    }


def _noise(view: View, other: View, generator: torch.Generator) -> dict[str, Tensor]:
    return {n: torch.randn(g.shape, generator=generator) * g.std() for n, g in view.update.gradients.items()}


def _short(view: View, other: View, generator: torch.Generator) -> dict[str, Tensor]:
    """Keep three quarters of the directions that weight gradients of tokens have."""

    def cut(gradient: Tensor) -> Tensor:
        if gradient.dim() < 2 or min(gradient.flatten(1).shape) <= 24:
            return gradient
        u, s, v = torch.linalg.svd(gradient.flatten(1).double(), full_matrices=False)
        return ((u[:, :24] * s[:24]) @ v[:24]).float().reshape(gradient.shape)

    return {n: cut(g) for n, g in view.update.gradients.items()}


# What becomes of the update; None leaves it as it is.
NULLS = {"none": None, "wrong label": None, "half of another clip's": _mixed, "noise": _noise, "short ranks": _short}
# A certified picture below this many dB is wrong.
_WRONG = 40.0


def certificates(count: int, seconds: float) -> int:
    """Make small runs, with and without nulls; return how many certified ones are wrong."""
    spec, wrong, rows = _spec(4, 16), 0, []
    for run in range(count):
        generator = torch.Generator().manual_seed(run)

        def one(*of: Any, generator: torch.Generator = generator) -> Any:
            return of[int(torch.randint(len(of), (), generator=generator))]

        torch.manual_seed(run)
        d = one(48, 64, 96)
        settings = {
            "d": d, "heads": one(2, 4), "ratio": one(2.0, 4.0), "act": one(*ACTS), "post": one(False, False, True),
            "bias": one(True, False), "affine": one(True, True, False), "token": one(False, False, True),
            "table": one("sines", "separable", "frozen"), "std": one(0.02, 0.04),
        }  # fmt: skip
        net = Vit(spec, tubelet=(2, 4, 4), **settings).eval()
        name, other = one(*CLIPS), one(*CLIPS)
        clip, others = clip_of(name, spec), clip_of(other, spec)
        view = view_of(net, clip, spec)
        null = list(NULLS)[run % len(NULLS)]
        change = NULLS[null]
        if change is not None:
            sent = change(view, view_of(net, others, spec), generator)
            view = replace(view, update=Update(gradients=sent, batch=1))
        if null == "wrong label":
            view = replace(view, knowledge=replace(view.knowledge, labels=(LABEL + 1,)))
        elif run % 2:
            view = replace(view, knowledge=replace(view.knowledge, labels=None))
        made = TokenSpans().invert(view, Budget(seconds=seconds, steps=0), run)
        certified = isinstance(made, Reconstruction) and made.outcome is Outcome.SOLVED
        # Where all that the spans are of was taken from the other clip, that one is the right answer.
        right = [clip, others] if null == "half of another clip's" else [clip]
        reached = max(float(psnr(c, made.clips[0])) for c in right) if isinstance(made, Reconstruction) else math.nan
        bad = certified and reached < _WRONG
        wrong += bad
        rows.append((null, certified, reached))
        print(run, null, name, settings, "certified" if certified else "-", f"{reached:.1f}", "WRONG" * bad, flush=True)
    for null in NULLS:
        of = [row for row in rows if row[0] == null]
        print(
            f"{null}: {len(of)} runs, {sum(c for _, c, _ in of)} certified, {sum(r > 60.0 for _, _, r in of)} at 60 dB"
        )
    print(f"{wrong} wrong certificates in {count} runs")
    return wrong


def main() -> None:
    """Run the nets on the clips, or count wrong certificates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS), metavar="NAME")
    parser.add_argument("--clips", nargs="+", default=CLIPS, metavar="NAME")
    parser.add_argument("--trained", type=int, default=0, help="training steps before the attack")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--certificates", type=int, default=0, metavar="RUNS")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.certificates:
        sys.exit(certificates(options.certificates, min(options.seconds, 30.0)) > 0)
    for name in options.nets:
        for clip_name in options.clips:
            row = case(name, clip_name, options.trained, options.seconds)
            print(json.dumps(row) if options.json else row, flush=True)


if __name__ == "__main__":
    main()
