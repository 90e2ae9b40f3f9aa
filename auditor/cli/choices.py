"""The options that several commands share, each told once."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from auditor.cli.arguments import parse_arguments, parse_floats, parse_shape
from auditor.errors import UsageError
from auditor.text import printable

MODEL, CLIENT, AUDIT, OUTPUT = "Model", "What clients train and send", "The audit", "Output"
PARTS = "Model of two parts"
LAYOUTS = ("NCTHW", "NTCHW", "NTHWC", "NCHW", "NHWC")

# Those of `records`, which would import torch: help must not wait for that.
POOLS = ("each", "mean", "last", "max")
ALGORITHMS = {"fedsgd": "FedSGD", "fedavg": "FedAvg"}
EPOCHS, RATE = 5, 0.01
JOINS = ("none", "sequence", "flatten", "pool", "pool-sequence", "mean")
_SOURCES = (
    "model.onnx, path/file.py:factory, package.module:factory, torchvision:NAME, timm:NAME, hf:FOLDER, or "
    "pretrained:efficientnet-lite0"
)

OptionalModel = Annotated[
    str | None, typer.Argument(help=f"{_SOURCES}; or leave it out and give --extractor and --head", metavar="[MODEL]")
]
Extractor = Annotated[
    str | None,
    typer.Option(
        help="Frozen, public feature extractor of a two-part model: any source that MODEL takes.",
        rich_help_panel=PARTS,
    ),
]
Head = Annotated[
    str | None, typer.Option(help="Head that clients train on its features: any source.", rich_help_panel=PARTS)
]
ExtractorWeights = Annotated[Path | None, typer.Option(help="Weights for a PyTorch extractor.", rich_help_panel=PARTS)]
HeadWeights = Annotated[Path | None, typer.Option(help="Weights for a PyTorch head.", rich_help_panel=PARTS)]
JoinName = Annotated[
    str | None,
    typer.Option(
        "--join",
        help=f"How features enter the head, if it is not certain: {', '.join(JOINS[:-1])} or {JOINS[-1]}.",
        rich_help_panel=PARTS,
    ),
]
Weights = Annotated[
    Path | None, typer.Option(help="Weights for a PyTorch model: .safetensors or a state dict.", rich_help_panel=MODEL)
]
InputShape = Annotated[
    str | None, typer.Option(help="One clip in the model's own axis order, e.g. 3,8,32,32.", rich_help_panel=MODEL)
]
LayoutName = Annotated[
    str | None,
    typer.Option(
        "--layout", help=f"{', '.join(LAYOUTS[:-1])} or {LAYOUTS[-1]}, if it cannot be read.", rich_help_panel=MODEL
    ),
]
Classes = Annotated[
    int | None, typer.Option(help="Number of classes, if it cannot be read.", min=1, rich_help_panel=MODEL)
]
Mean = Annotated[
    str | None,
    typer.Option(help="Channel means the input is normalised by, e.g. 0.45,0.45,0.45.", rich_help_panel=MODEL),
]
Std = Annotated[str | None, typer.Option(help="Channel standard deviations.", rich_help_panel=MODEL)]
Range = Annotated[
    str | None, typer.Option("--range", help="Pixel values the model reads, e.g. 0,255.", rich_help_panel=MODEL)
]
Pool = Annotated[
    str | None,
    typer.Option(
        "--temporal-pool",
        help=f"Logits of a clip from those of its frames: {', '.join(POOLS[:-1])} or {POOLS[-1]}.",
        rich_help_panel=MODEL,
    ),
]
ModelOutput = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|INDEX", help="Output that the loss reads, if the model returns several.", rich_help_panel=MODEL
    ),
]
Arguments = Annotated[
    list[str] | None,
    typer.Option(
        "--arg", help="NAME=VALUE for the factory or architecture, e.g. depth=4; repeatable.", rich_help_panel=MODEL
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust-model", help="Read .pt2, TorchScript and pickled modules, which run code.", rich_help_panel=MODEL
    ),
]
OnnxOps = Annotated[
    list[Path] | None,
    typer.Option(
        "--onnx-ops",
        help="Python FILE that adds operators to ONNX, see docs/operators.md; executed; repeatable.",
        rich_help_panel=MODEL,
    ),
]
Trainable = Annotated[
    list[str] | None,
    typer.Option(help="GLOB of parameters or layers that clients train and send; repeatable.", rich_help_panel=CLIENT),
]
Batch = Annotated[int, typer.Option(help="Clips per update.", min=1, max=64, rich_help_panel=CLIENT)]
AlgorithmName = Annotated[
    str,
    typer.Option(
        "--algorithm",
        help="What travels: fedsgd, one gradient, or fedavg, the change of the weights after local training.",
        rich_help_panel=CLIENT,
    ),
]
LocalEpochs = Annotated[
    int | None,
    typer.Option(
        help=f"With fedavg: times that a client goes through its clips [default: {EPOCHS}].",
        min=1,
        max=1000,
        show_default=False,
        rich_help_panel=CLIENT,
    ),
]
LocalBatch = Annotated[
    int | None,
    typer.Option(
        help="With fedavg: clips of one local step [default: all].", min=1, show_default=False, rich_help_panel=CLIENT
    ),
]
LearningRate = Annotated[
    float | None,
    typer.Option(
        help=f"With fedavg: step size of local SGD [default: {RATE}].", show_default=False, rich_help_panel=CLIENT
    ),
]
Momentum = Annotated[
    float | None,
    typer.Option(help="With fedavg: momentum of local SGD [default: 0].", show_default=False, rich_help_panel=CLIENT),
]
LabelsInBatch = Annotated[
    str, typer.Option("--labels", help="Labels within a batch: distinct or equal.", rich_help_panel=CLIENT)
]
BatchNorm = Annotated[str, typer.Option("--bn", help="BatchNorm at the client: eval or train.", rich_help_panel=CLIENT)]
Loss = Annotated[
    str,
    typer.Option(
        help="Loss that clients minimise: cross-entropy, bce, mse, or path/file.py:name (executed).",
        rich_help_panel=CLIENT,
    ),
]
GuessedLoss = Annotated[
    str | None,
    typer.Option(
        "--loss", help="Loss that clients minimise [default: guessed from the output].", rich_help_panel=CLIENT
    ),
]
Dropout = Annotated[
    str, typer.Option(help="Dropout at the client: off or on, with masks of its own.", rich_help_panel=CLIENT)
]
SendBuffers = Annotated[
    bool,
    typer.Option(
        "--send-buffers/--no-send-buffers",
        help="BatchNorm running statistics travel with the update (FedAvg); needs --bn train.",
        rich_help_panel=CLIENT,
    ),
]
References = Annotated[
    list[str] | None,
    typer.Option(
        "--reference",
        metavar="FILE|first:K",
        help="Frames of the scene for attackers who hold some: a picture, a folder of frames or a clip; repeatable. Or "
        "first:K, the first K frames of the attacked clip [default: first:1, and first:3 for attacks with several].",
        show_default=False,
        rich_help_panel=AUDIT,
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of everything random.", min=0, rich_help_panel=AUDIT)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.", rich_help_panel=AUDIT)]


def check_references(given: Sequence[str]) -> None:
    """Raise UsageError now, rather than after loading the model, if a reference is not there."""
    for text in given:
        if not text.startswith("first:") and not Path(text).exists():
            raise UsageError(f"there is no {shown(Path(text))}", "give --reference a picture, a folder or a clip")


def shown(path: Path) -> str:
    """Return a path as it may be printed."""
    return printable(str(path), 300)


def one_of(option: str, value: str | None, allowed: tuple[str, ...]) -> Any:
    """Return a value that must be one of a few.

    Raises
    ------
    UsageError
        It is another.
    """
    if value is not None and value not in allowed:
        raise UsageError(f"{option} {printable(value)} is unknown", f"use one of {', '.join(allowed)}")
    return value


def which_model(
    model: str | None,
    weights: Path | None,
    extractor: str | None,
    head: str | None,
    extractor_weights: Path | None,
    head_weights: Path | None,
    join: str | None,
) -> dict[str, Any]:
    """Return what is to be audited, one model or two parts, by the names of `ScanOptions`.

    Raises
    ------
    UsageError
        Both, neither, half of the parts, or options of the other kind were given.
    """
    two = extractor is not None or head is not None
    if model is not None and two:
        raise UsageError(
            "MODEL and --extractor or --head were given", "give MODEL alone, or --extractor and --head without MODEL"
        )
    if two and (extractor is None or head is None):
        given, other = ("--head", "--extractor") if extractor is None else ("--extractor", "--head")
        raise UsageError(f"{given} was given without {other}", f"add {other}, or give the whole model as MODEL")
    if two and weights is not None:
        raise UsageError("--weights does not say which part it is for", "give --extractor-weights or --head-weights")
    if not two:
        if model is None:
            raise UsageError("no model was given", "give MODEL, or --extractor and --head")
        options = {"--extractor-weights": extractor_weights, "--head-weights": head_weights, "--join": join}
        stray = next((option for option, value in options.items() if value is not None), None)
        if stray is not None:
            raise UsageError(f"{stray} applies to two-part models only", "give --extractor and --head instead of MODEL")
    return {
        "model": model or "",
        "weights": weights,
        "extractor": extractor,
        "head": head,
        "extractor_weights": extractor_weights,
        "head_weights": head_weights,
        "join": one_of("--join", join, JOINS),
    }


def how_to_read(
    input_shape: str | None,
    layout: str | None,
    mean: str | None,
    std: str | None,
    value_range: str | None,
    temporal_pool: str | None,
    arguments: list[str] | None,
    trust_model: bool,
    onnx_ops: list[Path] | None = None,
) -> dict[str, Any]:
    """Return what the user said about reading the model, parsed, by the names of `LoadOptions`.

    Raises
    ------
    UsageError
        A value cannot be read.
    """
    return {
        "layout": one_of("--layout", layout, LAYOUTS),
        "input_shape": parse_shape(input_shape) if input_shape else None,
        "mean": parse_floats("--mean", mean) if mean else None,
        "std": parse_floats("--std", std) if std else None,
        "value_range": parse_floats("--range", value_range, count=2) if value_range else None,
        "temporal_pool": one_of("--temporal-pool", temporal_pool, POOLS),
        "arguments": parse_arguments(arguments or ()),
        "trust_model": trust_model,
        "onnx_ops": tuple(onnx_ops or ()),
    }


def how_clients_train(
    algorithm: str,
    local_epochs: int | None,
    local_batch: int | None,
    learning_rate: float | None,
    momentum: float | None,
) -> dict[str, Any]:
    """Return how clients train, by the names of `ScanOptions`.

    Raises
    ------
    UsageError
        A value is out of range, or local training is described for FedSGD, which has none.
    """
    chosen = ALGORITHMS[one_of("--algorithm", algorithm, tuple(ALGORITHMS))]
    given = {
        "--local-epochs": local_epochs,
        "--local-batch": local_batch,
        "--learning-rate": learning_rate,
        "--momentum": momentum,
    }
    if chosen == "FedSGD":
        stray = next((option for option, value in given.items() if value is not None), None)
        if stray is not None:
            raise UsageError(f"{stray} describes local training, which fedsgd has not", "add --algorithm fedavg")
        return {"algorithm": chosen}
    rate, inertia = RATE if learning_rate is None else learning_rate, momentum or 0.0
    if not 0.0 < rate < math.inf:
        raise UsageError(f"--learning-rate {rate:g} is no step size", "give a number above 0, e.g. 0.01")
    if not 0.0 <= inertia < 1.0:
        raise UsageError(f"--momentum {inertia:g} is not in [0, 1)", "give e.g. 0.9")
    return {
        "algorithm": chosen,
        "local_epochs": local_epochs or EPOCHS,
        "local_batch": local_batch or 0,
        "learning_rate": rate,
        "momentum": inertia,
    }
