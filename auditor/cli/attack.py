"""`fl-audit attack`: one attack on one clip, for experiments."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from auditor.cli import choices
from auditor.cli.arguments import parse_seconds

EXPERIMENT = "The attack"
DEFAULT_FOLDER = Path("fl-audit-attack")


def attack(
    model: choices.OptionalModel = None,
    name: Annotated[
        str,
        typer.Option("--attack", help="Attack, by its name in `fl-audit list attacks`.", rich_help_panel=EXPERIMENT),
    ] = "gradient-matching",
    clip: Annotated[
        str,
        typer.Option(
            help="Your own clip (video, folder of frames, .npz, .npy), a shipped one by name, or canary.",
            rich_help_panel=EXPERIMENT,
        ),
    ] = "park_walker",
    max_time: Annotated[
        str,
        typer.Option(help="Time for the attack, without loading and scoring.", rich_help_panel=EXPERIMENT),
    ] = "60s",
    steps: Annotated[
        int | None, typer.Option(help="Most steps of one descent [default: 3000].", min=1, rich_help_panel=EXPERIMENT)
    ] = None,
    restarts: Annotated[
        int | None, typer.Option(help="Descents from different seeds.", min=1, max=64, rich_help_panel=EXPERIMENT)
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            help="Class of the clip, several as 1,4, or its value [default: drawn].", rich_help_panel=EXPERIMENT
        ),
    ] = None,
    label_known: Annotated[
        bool | None,
        typer.Option(
            "--known-label/--restored-label",
            help="The attacker knows the label, or restores it [default: restores it where that is certain].",
            rich_help_panel=EXPERIMENT,
            show_default=False,
        ),
    ] = None,
    reference: choices.References = None,
    diagnose: Annotated[
        bool,
        typer.Option(
            "--diagnose",
            help="Also start the search at the true clip and measure exposure, to tell why the attack fell short.",
            rich_help_panel=EXPERIMENT,
        ),
    ] = False,
    seed: choices.Seed = 0,
    device: choices.Device = "auto",
    weights: choices.Weights = None,
    input_shape: choices.InputShape = None,
    layout: choices.LayoutName = None,
    classes: choices.Classes = None,
    mean: choices.Mean = None,
    std: choices.Std = None,
    value_range: choices.Range = None,
    temporal_pool: choices.Pool = None,
    model_output: choices.ModelOutput = None,
    arg: choices.Arguments = None,
    trust_model: choices.Trust = False,
    onnx_ops: choices.OnnxOps = None,
    extractor: choices.Extractor = None,
    head: choices.Head = None,
    extractor_weights: choices.ExtractorWeights = None,
    head_weights: choices.HeadWeights = None,
    join: choices.JoinName = None,
    trainable: choices.Trainable = None,
    batch: choices.Batch = 1,
    labels: choices.LabelsInBatch = "distinct",
    bn: choices.BatchNorm = "eval",
    loss: choices.Loss = "cross-entropy",
    dropout: choices.Dropout = "off",
    send_buffers: choices.SendBuffers = False,
    algorithm: choices.AlgorithmName = "fedsgd",
    local_epochs: choices.LocalEpochs = None,
    local_batch: choices.LocalBatch = None,
    learning_rate: choices.LearningRate = None,
    momentum: choices.Momentum = None,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="DIR", help="Folder for results.", rich_help_panel=choices.OUTPUT),
    ] = DEFAULT_FOLDER,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON and nothing else.", rich_help_panel=choices.OUTPUT)
    ] = False,
) -> None:
    """Run one attack on one clip, and keep what it reconstructed.

    Writes frames, a lossless animation, a strip beside the true clip, arrays and result.json (docs/attack.md).

    Exits 0 when the attack ran, whatever it recovered, 2 when an option is wrong, 3 when the model cannot be audited or
    the attack does not apply to it, 4 when the time did not hold the attack.
    """
    setup = {
        **choices.which_model(model, weights, extractor, head, extractor_weights, head_weights, join),
        **choices.how_to_read(input_shape, layout, mean, std, value_range, temporal_pool, arg, trust_model, onnx_ops),
        "labels": choices.one_of("--labels", labels, ("distinct", "equal")),
        "batchnorm": choices.one_of("--bn", bn, ("eval", "train")),
        "loss": loss,
        "dropout": choices.one_of("--dropout", dropout, ("off", "on")),
        "send_buffers": send_buffers,
        **choices.how_clients_train(algorithm, local_epochs, local_batch, learning_rate, momentum),
        "output": model_output,
        "max_time": parse_seconds(max_time),
        "classes": classes,
        "batch": batch,
        "trainable": tuple(trainable or ()),
        "seed": seed,
        "device": device,
        "command": ("fl-audit", *sys.argv[1:]),
    }
    choices.check_references(reference or ())
    document = _run(
        setup,
        output,
        attack=name,
        clip=clip,
        label=label,
        label_known=label_known,
        references=tuple(reference or ()),
        restarts=restarts,
        steps=steps,
        diagnose=diagnose,
    )
    if as_json:
        import json

        typer.echo(json.dumps(document, indent=2, allow_nan=False))
        return
    from auditor.report.attack import attack_summary

    typer.echo(attack_summary(document, choices.shown(output)))


def _run(setup: dict[str, Any], folder: Path, **chosen: Any) -> dict[str, Any]:
    """Check what can be checked at once, attack, and write the folder."""
    import warnings

    from rich.console import Console

    from auditor.cli.progress import progress_display
    from auditor.pipeline import ScanOptions
    from auditor.pipeline.documents.attack import attack_document
    from auditor.pipeline.single_attack.files import check_folder, write_folder
    from auditor.pipeline.single_attack.options import AttackOptions, attack_named, check_clip
    from auditor.pipeline.single_attack.run import attack_one

    attack_named(chosen["attack"], chosen["restarts"])
    check_clip(chosen["clip"])
    check_folder(folder)
    options = AttackOptions(setup=ScanOptions(**setup), **chosen)
    limit = setup["max_time"] * (2.0 if options.diagnose else 1.0)
    with warnings.catch_warnings(), progress_display(Console(stderr=True), limit) as display:
        warnings.simplefilter("ignore")
        attacked = attack_one(options, display)
        document = attack_document(attacked)
        write_folder(attacked, document, folder)
    return document
