"""The options that several commands share, each told once."""

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from auditor.arguments import parse_arguments, parse_floats, parse_shape
from auditor.errors import UsageError
from auditor.records import TemporalPool
from auditor.text import printable

MODEL, CLIENT, AUDIT, OUTPUT = "Model", "What clients train and send", "The audit", "Output"
LAYOUTS = ("NCTHW", "NTCHW", "NTHWC", "NCHW", "NHWC")

POOLS = get_args(TemporalPool)

Model = Annotated[
    str,
    typer.Argument(
        help="model.onnx, path/file.py:factory, package.module:factory, torchvision:NAME, timm:NAME, or hf:FOLDER",
        metavar="MODEL",
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
    int | None, typer.Option(help="Number of classes, if it cannot be read.", min=2, rich_help_panel=MODEL)
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
    str,
    typer.Option(
        "--temporal-pool",
        help=f"Logits of a clip from those of its frames, for image models: {', '.join(POOLS[:-1])} or {POOLS[-1]}.",
        rich_help_panel=MODEL,
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
Trainable = Annotated[
    list[str] | None,
    typer.Option(help="GLOB of parameters or layers that clients train and send; repeatable.", rich_help_panel=CLIENT),
]
BatchNorm = Annotated[str, typer.Option("--bn", help="BatchNorm at the client: eval or train.", rich_help_panel=CLIENT)]
Loss = Annotated[str, typer.Option(help="Loss that clients minimise: cross-entropy.", rich_help_panel=CLIENT)]
Seed = Annotated[int, typer.Option(help="Seed of everything random.", min=0, rich_help_panel=AUDIT)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.", rich_help_panel=AUDIT)]


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


def how_to_read(
    input_shape: str | None,
    layout: str | None,
    mean: str | None,
    std: str | None,
    value_range: str | None,
    temporal_pool: str,
    arguments: list[str] | None,
    trust_model: bool,
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
    }
