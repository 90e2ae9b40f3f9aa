"""Whether several restarts advanced together take less than one after another: steps of gradient matching, folded.

Usage: python benchmarks/folding.py [--nets NAME ...] [--restarts 1 2 4] [--rounds N]

The folded step is `torch.func.vmap` over the squared distance of gradients, differentiated by all clips at once. Both
ways are timed in turn, in seconds of the processor on one thread; the least of the rounds counts.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent)]

import nets  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.func import functional_call, grad, vmap  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402

from auditor.records.arithmetic import compute_exactly  # noqa: E402

_CLIP = (3, 8, 32, 32)
_CALLS = 6


def steps(net: nn.Module, restarts: int) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Return a step of every restart, one after another and folded; each gives slopes (restart, *clip)."""
    named = dict(net.named_parameters())
    fixed = {name: value.detach() for name, value in named.items()}
    kept = dict(net.named_buffers())
    label = torch.tensor([3])
    generator = torch.Generator().manual_seed(0)
    observed = {name: 0.01 * torch.randn(value.shape, generator=generator) for name, value in fixed.items()}
    clips = torch.rand((restarts, *_CLIP), generator=generator).requires_grad_(True)
    apart = [clip.detach().clone().requires_grad_(True) for clip in clips]

    def one(clip: Tensor) -> Tensor:
        found = torch.autograd.grad(F.cross_entropy(net(clip[None]), label), list(named.values()), create_graph=True)
        distance = torch.stack([(g - observed[n]).square().sum() for n, g in zip(named, found, strict=True)]).sum()
        return torch.autograd.grad(distance, clip)[0]

    def loss(values: dict[str, Tensor], clip: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(net, {**values, **kept}, (clip[None],)), label)

    def distance(clip: Tensor) -> Tensor:
        found = grad(loss)(fixed, clip)
        return torch.stack([(g - observed[n]).square().sum() for n, g in found.items()]).sum()

    def in_turn() -> Tensor:
        return torch.stack([one(clip) for clip in apart])

    def folded() -> Tensor:
        return torch.autograd.grad(vmap(distance)(clips).sum(), clips)[0]

    return in_turn, folded


def milliseconds(step: Callable[[], Tensor]) -> float:
    """Return the processor's milliseconds of one call, in the mean of a few."""
    begun = time.process_time()
    for _ in range(_CALLS):
        step()
    return (time.process_time() - begun) / _CALLS * 1e3


def main() -> None:
    """Print a line for every net and number of restarts: both times, and how many times as fast the folded one is."""
    known = [net.__name__ for net in nets.NETS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", default=known[:3], choices=known, metavar="NAME")
    parser.add_argument("--restarts", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    compute_exactly()
    with sdpa_kernel([SDPBackend.MATH]):  # others have no second derivative
        for name in given.nets:
            net = getattr(nets, name)().eval()
            for restarts in given.restarts:
                in_turn, folded = steps(net, restarts)
                expected, made = in_turn(), folded()
                off = float((made - expected).norm() / expected.norm())
                least = [min(pair) for pair in zip(*((milliseconds(in_turn), milliseconds(folded))
                                                     for _ in range(given.rounds)), strict=True)]  # fmt: skip
                print(
                    f"{name}, {restarts} restarts: {least[0]:.1f} ms in turn, {least[1]:.1f} ms folded, "
                    f"{least[0] / least[1]:.2f} times as fast, slopes differ by {off:.0e}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
