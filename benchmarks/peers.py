"""Gradient matching of this project beside breaching's, on the same nets, clips, labels and seconds.

Usage: python benchmarks/peers.py [--seconds 10] [--nets NAME ...] [--clips NAME ...] [--peer-path DIR] [--json]
       python benchmarks/peers.py --deep [--seconds 240] [--clips NAME ...] [--peer-path DIR] [--json]
       python benchmarks/peers.py --model path.py:factory --clip FILE

breaching 0.1.2 (Geiping et al.; MIT) knows images, not clips: a clip is folded to a tall image, all frames one under
the other, and the net unfolds it. Its two attacks keep their own defaults but for the number of iterations, which is
set from 20 measured ones to fill the seconds; so is the work that ours may count, from a trial with as much work as
there are seconds. Seconds are the processor's: every attack runs in a process of its own, on one thread, one after the
other, case by case, and is given the true label. Ours is the first attack that goes all the way: token spans that
their certificate confirms; layer recursion, or else the residual recursion, where it finds the exact input of a layer
below the head; and least squares matching elsewhere, a choice that needs no truth; without a reference frame. On small
nets it also runs with a twentieth, a tenth, a fifth and half of the seconds, to tell how soon it reaches what the peer
ends with. --deep takes the nets of published size instead (`deep_suite.py`), where ours runs with half and all of them.

Install the peer in an environment of its own, or in a folder that is named by --peer-path:
    pip install --no-deps --target DIR breaching==0.1.2 lpips hydra-core omegaconf antlr4-python3-runtime==4.9.3
"""

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from suite import SUITE
from torch import Tensor, nn

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from deep_suite import DEEP_SUITE  # noqa: E402

from auditor.attack.base import Attack  # noqa: E402
from auditor.attack.registry import BY_NAME, LEAST_SQUARES, RECURSION, RESIDUAL_RECURSION  # noqa: E402
from auditor.federated import LocalClient, observe  # noqa: E402
from auditor.model.forward_pass import observe as read  # noqa: E402
from auditor.model.layers import find_layers  # noqa: E402
from auditor.model.sandbox.user_file import executed  # noqa: E402
from auditor.model.video import VideoModel  # noqa: E402
from auditor.probe import shipped_probes, user_probes  # noqa: E402
from auditor.records import (  # noqa: E402
    Budget,
    Clip,
    Clock,
    FederatedProtocol,
    Fidelity,
    InputSpec,
    Knowledge,
    Outcome,
    Reconstruction,
    Skipped,
    Target,
    View,
)  # fmt: skip
from auditor.score import psnr, ssim_frames  # noqa: E402

LABEL = 3
CLASSES = 10
PEERS = ("invertinggradients", "modern")
SHARES = (0.05, 0.1, 0.2, 0.5, 1.0)
DEEP_SHARES = (0.5, 1.0)
# Each goes where the one before it does not, and says so without the truth.
ALGEBRA: tuple[Attack, ...] = (BY_NAME["token-spans"], RECURSION, RESIDUAL_RECURSION)
SPEC = InputSpec(frames=8, channels=3, height=32, width=32, layout="NCTHW")
# breaching's progress is silenced by a callback that never comes.
_NEVER = 10**9
_TRIAL = 20


def net_of(name: str) -> nn.Module:
    """Return a net of the suite, or what `path.py:factory` makes."""
    known = {**SUITE, **DEEP_SUITE}
    if name in known:
        return known[name]().eval()
    path, _, factory = name.rpartition(":")
    torch.manual_seed(0)
    return getattr(executed(Path(path)), factory)().eval()


def clip_of(name: str, spec: InputSpec) -> Clip:
    """Return a shipped clip by its name, or the first one of a file."""
    shipped = {p.name: p.clip for p in shipped_probes(spec)}
    return shipped[name] if name in shipped else user_probes(Path(name), spec)[0].clip


def view_of(net: nn.Module, clip: Clip, spec: InputSpec) -> View:
    """Return what an attacker sees of one client with one clip, whose label is known."""
    model = VideoModel(net, spec)
    seen = read(model, torch.rand(1, *spec.clip_shape)).readings
    target = Target(
        name="benchmark", source="benchmark", format="pytorch", sha256="", model=model, input=spec, classes=CLASSES,
        layers=find_layers(net, dict(model.named_parameters()), seen), operators={},
        fidelity=Fidelity(
            parity_max_error=None, gradient_check=None, double_backward=True, batchnorm="none", batch="dynamic"
        ),
    )  # fmt: skip
    sent = tuple(n for n, p in target.parameters.items() if p.requires_grad)
    client = LocalClient(model, FederatedProtocol(sent=sent))
    knows = Knowledge(clip_shape=spec.clip_shape, batch=1, classes=CLASSES, labels=(LABEL,))
    return View(
        target=target, client=client, update=observe(client, clip[None], torch.tensor([LABEL])), knowledge=knows
    )


def ours(net: nn.Module, clip: Clip, spec: InputSpec, seconds: float, shares: Sequence[float]) -> dict[str, Any]:
    """Run our attack once for each share of the seconds."""
    view = view_of(net, clip, spec)
    runs = []
    for share in shares:
        made, took = attacked(view, share * seconds)
        if isinstance(made, Reconstruction):
            runs.append({
                "budget": share * seconds, "seconds": took, "steps": made.steps,
                **scores(made.clips[0], clip), "objective": made.objective, "attack": made.attack,
                "notes": list(made.notes),
            })  # fmt: skip
    return {"runs": runs}


def attacked(view: View, seconds: float) -> tuple[Reconstruction | Skipped, float]:
    """Run the first attack by linear algebra that applies; else least squares matching has the time that is left.

    Also returns the seconds of the processor, without those of the trial that paces the search.
    """
    begun, clock = time.process_time(), Clock(seconds)
    for attack in ALGEBRA:
        if attack.obstacle(view) is not None:
            continue
        made = attack.invert(view, Budget(seconds=max(clock.left, 0.0), steps=10**6), seed=0)
        if isinstance(made, Reconstruction) and made.outcome is not Outcome.UNVERIFIED:
            return made, time.process_time() - begun
    left = seconds - (time.process_time() - begun)
    budget = Budget(seconds=max(left, 0.0) * counted_in_a_second(view, seconds), steps=10**6)
    searched = time.process_time()
    made = LEAST_SQUARES.invert(view, budget, seed=0)
    return made, seconds - left + time.process_time() - searched


def counted_in_a_second(view: View, seconds: float) -> float:
    """Return how much of a budget, which counts work, a search uses up in one second of this processor."""
    begun = time.process_time()
    LEAST_SQUARES.invert(view, Budget(seconds=seconds, steps=10**6), seed=0)
    return seconds / (time.process_time() - begun)


class _Folded(nn.Module):
    """The victim for a peer that knows images: frames come one under the other."""

    def __init__(self, model: nn.Module, spec: InputSpec) -> None:
        super().__init__()
        self.model, self.size = model, (spec.frames, spec.height)

    def forward(self, image: Tensor) -> Tensor:
        return self.model(image.unflatten(2, self.size))


class _Record(dict[str, Any]):
    """Items that are attributes too, as the peer reads them."""

    __getattr__ = dict.__getitem__


def theirs(net: nn.Module, clip: Clip, spec: InputSpec, seconds: float, kind: str, path: str) -> dict[str, Any]:
    """Run one attack of breaching for so many iterations as fill the seconds."""
    if path:
        sys.path.append(path)
    import breaching

    view, folded = view_of(net, clip, spec), _Folded(net, spec)
    shape = (spec.channels, spec.frames * spec.height, spec.width)
    about = _Record(
        modality="vision", shape=shape, classes=CLASSES, task="classification", mean=(0.0,) * 3, std=(1.0,) * 3
    )
    shared = {"num_data_points": 1, "labels": torch.tensor([LABEL]), "local_hyperparams": None}

    def attack(iterations: int) -> tuple[Tensor, float]:
        torch.manual_seed(0)
        overrides = [f"optim.max_iterations={iterations}", f"optim.callback={_NEVER}"]
        config = breaching.get_attack_config(kind, overrides=overrides)
        setup = {"device": torch.device("cpu"), "dtype": torch.float}
        made = breaching.attacks.prepare_attack(folded, nn.CrossEntropyLoss(), config, setup)
        server = [{"parameters": list(net.parameters()), "buffers": list(net.buffers()), "metadata": about}]
        sent = [{"gradients": list(view.update.gradients.values()), "buffers": None, "metadata": shared}]
        begun = time.process_time()
        found, _ = made.reconstruct(server, sent, {}, dryrun=False)
        return found["data"].detach(), time.process_time() - begun

    torch.backends.mha.set_fastpath_enabled(False)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        attack(2)
        _, trial = attack(_TRIAL)
        iterations = max(_TRIAL, int(_TRIAL * seconds / trial))
        image, took = attack(iterations)
    clip_made = image[0].unflatten(1, (spec.frames, spec.height)).transpose(0, 1).clamp(0.0, 1.0)
    return {"seconds": took, "steps": iterations, **scores(clip_made, clip)}


def scores(made: Clip, truth: Clip) -> dict[str, float]:
    """Return PSNR and SSIM, and the gain over mid grey, in dB."""
    reached = float(psnr(truth, made))
    grey = float(psnr(truth, torch.full_like(truth, 0.5)))
    return {"psnr": reached, "ssim": float(ssim_frames(truth, made).mean()), "gain": reached - grey}


def child(given: argparse.Namespace) -> None:
    """Run one attack and print one line of JSON."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    net, clip = net_of(given.nets[0]), clip_of(given.clips[0], SPEC)
    if given.child == "ours":
        shares = DEEP_SHARES if given.nets[0] in DEEP_SUITE else SHARES
        print(json.dumps(ours(net, clip, SPEC, given.seconds, shares)))
    else:
        print(json.dumps(theirs(net, clip, SPEC, given.seconds, given.child, given.peer_path)))


def started(program: str, net: str, clip: str, given: argparse.Namespace) -> dict[str, Any]:
    """Run one attack in a process of its own; say so on stderr where it fails."""
    command = [sys.executable, __file__, "--child", program, "--nets", net, "--clips", clip]
    command += ["--seconds", str(given.seconds), "--peer-path", given.peer_path]
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **threads})
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        sys.exit(f"{program} failed on {net}: {last}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def case(net: str, clip: str, given: argparse.Namespace) -> dict[str, Any]:
    """Run all attacks on one net and clip, and compare ours with the peer's better one."""
    made = {program: started(program, net, clip, given) for program in ("ours", *PEERS)}
    runs = made["ours"]["runs"]
    best = max(PEERS, key=lambda p: made[p]["psnr"])
    whole, peer = (runs[-1] if runs else None), made[best]
    reached = next((r["seconds"] for r in runs if r["psnr"] >= peer["psnr"]), None)
    return {
        "model": net, "clip": clip, "peer": f"breaching {best}",
        "ours_psnr": whole and whole["psnr"], "peer_psnr": peer["psnr"],
        "ours_ssim": whole and whole["ssim"], "peer_ssim": peer["ssim"],
        "ours_gain": whole and whole["gain"], "peer_gain": peer["gain"],
        "seconds": whole and whole["seconds"], "peer_seconds": peer["seconds"],
        "seconds_to_peer": reached, "ours_steps": whole and whole["steps"], "peer_steps": peer["steps"],
        "peers": {p: made[p] for p in PEERS}, "runs": runs,
    }  # fmt: skip


HEAD = (
    "| net | clip | ours, PSNR / SSIM | better peer | peer, PSNR / SSIM | ahead | to the peer's score |\n"
    "|---|---|---|---|---|---|---|"
)


def row(one: dict[str, Any]) -> str:
    """Return a case as a row of the table."""
    if one["ours_psnr"] is None:
        return f"| {one['model']} | {one['clip']} | out of budget | {one['peer']} | {one['peer_psnr']:.1f} dB | | |"
    soon = f"{one['seconds_to_peer']:.1f} s" if one["seconds_to_peer"] is not None else "not reached"
    cells = (
        one["model"], one["clip"], f"{one['ours_psnr']:.1f} dB / {one['ours_ssim']:.2f}", one["peer"],
        f"{one['peer_psnr']:.1f} dB / {one['peer_ssim']:.2f}", f"{one['ours_psnr'] - one['peer_psnr']:+.1f} dB", soon,
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Run the suite, or the case that was named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, help="for every attack (10; with --deep 240)")
    parser.add_argument("--nets", nargs="+", metavar="NAME")
    parser.add_argument("--deep", action="store_true", help="nets of published size")
    parser.add_argument("--clips", nargs="+", default=["park_walker", "hand_box"], metavar="NAME")
    parser.add_argument("--model", metavar="PATH.py:FACTORY", help="a net (clip, channel, frame, height, width)")
    parser.add_argument("--clip", metavar="FILE", help="a clip of yours")
    parser.add_argument("--peer-path", default="", metavar="DIR", help="where breaching was installed, if not here")
    parser.add_argument("--json", action="store_true", help="print JSON; the table goes to standard error")
    parser.add_argument("--child", choices=["ours", *PEERS], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.seconds is None:
        given.seconds = 240.0 if given.deep else 10.0
    if given.child:
        return child(given)
    nets = [given.model] if given.model else given.nets or list(DEEP_SUITE if given.deep else SUITE)
    clips = [given.clip] if given.clip else given.clips
    table = sys.stderr if given.json else sys.stdout
    print(HEAD, file=table, flush=True)
    cases = []
    for net in nets:
        for clip in clips:
            cases.append(case(net, clip, given))
            print(row(cases[-1]), file=table, flush=True)
    ahead = [c["ours_psnr"] - c["peer_psnr"] for c in cases if c["ours_psnr"] is not None]
    if ahead:
        print(f"\nahead by {statistics.median(ahead):+.1f} dB in the median", file=table)
    if given.json:
        print(json.dumps({"cases": cases}))
    return None


if __name__ == "__main__":
    main()
