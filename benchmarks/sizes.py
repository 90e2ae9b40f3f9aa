"""Peak memory and seconds of `inspect` and `scan --preset fast` for video nets at their published sizes.

Usage: python benchmarks/sizes.py [--commands step inspect scan] [--folder FOLDER] [--limit SECONDS]
[--max-time TIME] [NET ...]

`step` is the reference: one forward and one backward pass of the same net through the same loader's view, on one clip.
Memory is the resident set of the command and its children, polled ten times a second; weights are random, and nothing
is downloaded. The transformers come from configurations and are written to FOLDER (about 1.2 GB) once. What a command
says is kept in FOLDER/logs, with the memory it held second by second; the reports of scans are in FOLDER/reports.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
POLL = 0.1
PAGE = os.sysconf("SC_PAGE_SIZE")

FRAMES = """
import torch, torchvision
from torch import nn

class Frames(nn.Module):
    input_shape = (3, 8, 224, 224)

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        clips, _, frames = x.shape[:3]
        return self.body(x.transpose(1, 2).flatten(0, 1)).reshape(clips, frames, -1).mean(1)

def mobilenet():
    torch.manual_seed(0)
    return Frames(torchvision.models.mobilenet_v3_large(num_classes=400))

def resnet50():
    torch.manual_seed(0)
    return Frames(torchvision.models.resnet50(num_classes=400))
"""

STEP = """
import sys, time, torch
from pathlib import Path
from auditor.model.pytorch.from_pytorch import open_pytorch, input_of
from auditor.model.pytorch.sources import form_of
from auditor.model.reading_options import LoadOptions
from auditor.model.video import VideoModel
source, shape = sys.argv[1], sys.argv[2]
options = LoadOptions(input_shape=tuple(int(v) for v in shape.split(",")) if shape else None)
opened = open_pytorch(source, form_of(source, trusted=False), None, options)
_, spec = input_of(opened.built, source, options)
model = VideoModel(opened.network, spec)
logits = model(torch.rand(1, *spec.clip_shape))
loss = torch.nn.functional.cross_entropy(logits, torch.zeros(1, dtype=torch.long))
torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad], allow_unused=True)
"""


@dataclass(frozen=True)
class Net:
    """A net by the name that the command line reads, and the shape of a clip where it does not state one."""

    name: str
    source: str
    shape: str = ""


@dataclass(frozen=True)
class Cost:
    """What a command cost: bytes at its peak, wall and CPU seconds, exit code, and the last line of its output."""

    peak: int
    wall: float
    cpu: float
    code: int | None
    said: str


def nets(folder: Path) -> tuple[Net, ...]:
    """Return the ten nets; those from configurations are written to the folder."""
    torchvision = (
        Net("r3d_18", "torchvision:r3d_18", "3,16,112,112"),
        Net("mc3_18", "torchvision:mc3_18", "3,16,112,112"),
        Net("s3d", "torchvision:s3d", "3,16,224,224"),
        Net("mvit_v2_s", "torchvision:mvit_v2_s", "3,16,224,224"),
        Net("swin3d_t", "torchvision:swin3d_t", "3,16,224,224"),
    )
    transformers = tuple(
        Net(name, f"hf:{folder / name}") for name in ("videomae-base", "vivit-base", "timesformer-base")
    )
    factory = folder / "frame_nets.py"
    factory.write_text(textwrap.dedent(FRAMES))
    frames = (
        Net("mobilenet_v3 over frames", f"{factory}:mobilenet"),
        Net("resnet50 over frames", f"{factory}:resnet50"),
    )
    return (*torchvision, *transformers, *frames)


def written(name: str, folder: Path) -> None:
    """Write a transformer with random weights, as `save_pretrained` would, unless it is there."""
    if (folder / "model.safetensors").exists():
        return
    import torch
    import transformers

    kinds = {
        "videomae-base": (transformers.VideoMAEConfig, transformers.VideoMAEForVideoClassification),
        "vivit-base": (transformers.VivitConfig, transformers.VivitForVideoClassification),
        "timesformer-base": (transformers.TimesformerConfig, transformers.TimesformerForVideoClassification),
    }
    config, kind = kinds[name]
    torch.manual_seed(0)
    kind(config(num_labels=400)).save_pretrained(folder)


def measured(command: Sequence[str], limit: float, log: Path) -> Cost:
    """Run a command to its end, or to `limit` seconds, and watch what it costs; what it says goes to `log`."""
    begun = time.monotonic()
    with log.open("w+") as output, log.with_suffix(".memory").open("w") as course:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT)
        peak, cpu, told = 0, 0.0, 0.0
        while process.poll() is None:
            family = tree(process.pid)
            held = sum(map(resident, family))
            peak = max(peak, held)
            cpu = max(cpu, sum(map(cpu_seconds, family)))
            used = time.monotonic() - begun
            if used >= told:
                print(f"{used:.0f} s, {cpu:.0f} s of CPU, {held / 1e9:.2f} GB", file=course, flush=True)
                told = used + 1.0
            if used > limit:
                for pid in family:
                    os.kill(pid, 9)
            time.sleep(POLL)
        output.seek(0)
        lines = [line for line in output.read().splitlines() if line.strip()]
    return Cost(peak, time.monotonic() - begun, cpu, process.returncode, lines[-1][:150] if lines else "")


def tree(pid: int) -> list[int]:
    """Return a process and its descendants, without copies that are about to become another program.

    For that moment they hold their parent's pages, which would be counted twice.
    """
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        children = []
    apart = [child for child in children if said_to_run(child) != said_to_run(pid)]
    return [pid, *(found for child in apart for found in tree(child))]


def said_to_run(pid: int) -> bytes:
    """Return the command line of a process; empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def resident(pid: int) -> int:
    """Return the bytes that a process holds in memory."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except OSError:
        return 0


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0


def step(net: Net, _: Path, __: str | None) -> list[str]:
    """One training step."""
    return [sys.executable, "-c", STEP, net.source, net.shape]


def inspect(net: Net, _: Path, __: str | None) -> list[str]:
    """`fl-audit inspect`."""
    return [sys.executable, "-m", "auditor", "inspect", net.source, *shaped(net)]


def scan(net: Net, folder: Path, limit: str | None) -> list[str]:
    """`fl-audit scan --preset fast`, with its report as HTML and PDF and its results."""
    return [
        *(sys.executable, "-m", "auditor", "scan", net.source, *shaped(net)),
        *("--preset", "fast", "--out", str(folder / "reports" / plain(net))),
        *(("--max-time", limit) if limit else ()),
    ]


def plain(net: Net) -> str:
    """Return the net's name without blanks."""
    return net.name.replace(" ", "-")


def shaped(net: Net) -> list[str]:
    """Return the option for the shape of a clip."""
    return ["--input-shape", net.shape] if net.shape else []


COMMANDS: dict[str, Callable[[Net, Path, str | None], list[str]]] = {"step": step, "inspect": inspect, "scan": scan}


def main() -> None:
    """Measure every net, or those named, one command at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", metavar="NET")
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "fl-audit-sizes")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds until a command is ended")
    parser.add_argument("--max-time", help="of the scans; what the preset takes unless given")
    given = parser.parse_args()
    for folder in ("logs", "reports"):
        (given.folder / folder).mkdir(parents=True, exist_ok=True)
    print("| net | command | peak GB | wall s | CPU s | exit | last line |\n|---|---|---|---|---|---|---|", flush=True)
    for net in nets(given.folder):
        if given.nets and net.name not in given.nets:
            continue
        if net.source.startswith("hf:"):
            written(net.name, given.folder / net.name)
        for name in given.commands:
            log = given.folder / "logs" / f"{plain(net)}-{name}.txt"
            cost = measured(COMMANDS[name](net, given.folder, given.max_time), given.limit, log)
            row = (
                net.name,
                name,
                f"{cost.peak / 1e9:.2f}",
                f"{cost.wall:.0f}",
                f"{cost.cpu:.0f}",
                cost.code,
                cost.said,
            )
            print("| " + " | ".join(map(str, row)) + " |", flush=True)


if __name__ == "__main__":
    main()
