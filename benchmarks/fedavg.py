"""What attacks recover after local training: real clips at 8x32x32, two nets, epochs by local batch.

`python benchmarks/fedavg.py` prints the table of benchmarks/README.md; `--net`, `--steps` and `--case` select.
"""

import argparse
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from suite import SUITE  # noqa: E402

from auditor.attack.base import Attack  # noqa: E402
from auditor.attack.fedavg import NL_SME, SME, UNROLLED, UNROLLED_EPOCHS, UNROLLED_GUESSED  # noqa: E402
from auditor.attack.fedavg.epochs import can_part  # noqa: E402
from auditor.attack.matching.gradient_matching import MODE_MATCHING  # noqa: E402
from auditor.federated import LocalClient, observe  # noqa: E402
from auditor.model.forward_pass import observe as read  # noqa: E402
from auditor.model.layers import find_layers  # noqa: E402
from auditor.model.video import VideoModel  # noqa: E402
from auditor.probe import shipped_probes  # noqa: E402
from auditor.records import Budget, FederatedProtocol, Fidelity, InputSpec, Knowledge, Reconstruction, Target, View  # noqa: E402
from auditor.score import pair, psnr  # noqa: E402

SPEC = InputSpec(frames=8, channels=3, height=32, width=32, layout="NCTHW")
CLASSES, LABELS = 10, (3, 5, 1, 7)


@dataclass(frozen=True)
class Case:
    """How one client trains: clips, epochs, clips of a local step, step size, momentum."""

    batch: int
    epochs: int
    local_batch: int
    rate: float
    momentum: float = 0.0

    def __str__(self) -> str:
        momentum = f", momentum {self.momentum:g}" if self.momentum else ""
        return f"B={self.batch}, E={self.epochs}, local batch {self.local_batch}, rate {self.rate:g}{momentum}"


CASES = (
    Case(1, 5, 1, 0.01),
    Case(1, 5, 1, 0.1),
    Case(1, 10, 1, 0.03),
    Case(1, 5, 1, 0.01, 0.9),
    Case(4, 1, 1, 0.01),
    Case(4, 2, 2, 0.01),
    Case(4, 2, 1, 0.03),
    Case(4, 4, 4, 0.01),
)
# The update taken for a single gradient at the public weights is what an attacker does who knows nothing of FedAvg.
ATTACKS: dict[str, Attack] = {
    "as one gradient": MODE_MATCHING,
    "sme": SME,
    "nl-sme": NL_SME,
    "unrolled": UNROLLED,
    "unrolled-epochs": UNROLLED_EPOCHS,
    "unrolled-guessed": UNROLLED_GUESSED,
}


def target_of(name: str) -> Target:
    """Return a net of the suite with fresh seeded weights."""
    net = SUITE[name]().eval()
    model = VideoModel(net, SPEC)
    seen = read(model, torch.rand(1, *SPEC.clip_shape)).readings
    return Target(
        name=name, source="benchmark", format="pytorch", sha256="", model=model, input=SPEC, classes=CLASSES,
        layers=find_layers(net, dict(model.named_parameters()), seen), operators={},
        fidelity=Fidelity(
            parity_max_error=None, gradient_check=None, double_backward=True, batchnorm="none", batch="dynamic"
        ),
    )  # fmt: skip


def view_of(target: Target, clips: Tensor, case: Case) -> View:
    """Return what an attacker sees who knows the labels and how clients train, but not the order of clips."""
    protocol = FederatedProtocol(
        algorithm="FedAvg", batch=case.batch, local_epochs=case.epochs, local_batch=case.local_batch,
        learning_rate=case.rate, momentum=case.momentum, sent=tuple(target.parameters),
    )  # fmt: skip
    client = LocalClient(target.model, protocol)
    labels = LABELS[: case.batch]
    knows = Knowledge(
        clip_shape=SPEC.clip_shape, batch=case.batch, classes=CLASSES, labels=labels, local_epochs=case.epochs,
        local_batch=case.local_batch, learning_rate=case.rate, momentum=case.momentum,
    )  # fmt: skip
    update = observe(client.with_seed(1), clips, torch.tensor(labels))
    return View(target=target, client=client, update=update, knowledge=knows)


def moved(view: View) -> float:
    """Return how far weights went, relative to their length."""
    public = view.target.parameters
    far = sum(float(g.square().sum()) for g in view.update.gradients.values())
    return (far / sum(float(public[n].detach().square().sum()) for n in view.update.gradients)) ** 0.5


def ran(name: str, view: View, clips: Tensor, steps: int) -> tuple[float, float, float]:
    """Return mean dB over the clips, the attacker's objective, and process seconds; NaN where nothing came of it."""
    attack = ATTACKS[name]
    if name == "as one gradient":
        view = replace(view, client=view.client.under(replace(view.client.protocol, algorithm="FedSGD")))
    begun = time.process_time()
    made = attack.invert(view, Budget(seconds=3600.0, steps=steps), seed=0) if attack.obstacle(view) is None else None
    if not isinstance(made, Reconstruction):
        return float("nan"), float("nan"), time.process_time() - begun
    order = pair(clips, made.clips)
    scores = [float(psnr(truth, made.clips[i])) for truth, i in zip(clips, order, strict=True)]
    return sum(scores) / len(scores), made.objective, time.process_time() - begun


def main() -> None:
    """Print one line a case and net."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", action="append", choices=list(SUITE), help="repeatable")
    parser.add_argument("--case", action="append", type=int, choices=range(len(CASES)), help="number, repeatable")
    parser.add_argument("--attack", action="append", choices=list(ATTACKS), help="repeatable")
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    torch.set_num_threads(1)
    probes = torch.stack([probe.clip for probe in shipped_probes(SPEC)])
    names = options.attack or list(ATTACKS)
    print("| net | local training | weights went | grey | " + " | ".join(names) + " |")
    print("|" + "---|" * (4 + len(names)))
    for net in options.net or ["conv3d-flatten-gelu", "conv3d-flatten-relu"]:
        for case in [CASES[i] for i in options.case or range(len(CASES))]:
            clips = probes[: case.batch]
            view = view_of(target_of(net), clips, case)
            grey = sum(float(psnr(c, torch.full_like(c, 0.5))) for c in clips) / len(clips)
            cells = []
            for name in names:
                if name == "unrolled-epochs" and not can_part(view):
                    cells.append("-")
                    continue
                score, objective, seconds = ran(name, view, clips, options.steps)
                cells.append(f"{score:.1f} dB ({objective:.0e}, {seconds:.0f} s)")
            told = f"| {net} | {case} | {moved(view):.1%} | {grey:.1f} dB | "
            print(told + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
