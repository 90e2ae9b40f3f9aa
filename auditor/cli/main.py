"""The command line: the one place that prints, reads the environment and exits."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from auditor.cli import choices
from auditor.cli.arguments import parse_seconds
from auditor.cli.attack import attack
from auditor.cli.study import study
from auditor.errors import AuditError, ExitCode, UsageError
from auditor.output_formats import SUFFIXES
from auditor.text import printable

app = typer.Typer(
    name="fl-audit",
    help="What does a federated-learning update give away about the clips it was trained on?",
    epilog="Exit codes: 0 gate satisfied, 1 gate failed on findings, 2 usage, 3 nothing auditable, 4 inconclusive, "
    "5 internal error, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_DEFAULT_OUT = Path("fl-audit-report")
_DEFAULT_FILES = ("results.json", "report.html", "report.pdf")


def _version(wanted: bool) -> None:
    if wanted:
        from auditor import __version__

        typer.echo(f"fl-audit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    pass


@app.command()
def scan(
    model: choices.OptionalModel = None,
    weights: choices.Weights = None,
    extractor: choices.Extractor = None,
    head: choices.Head = None,
    extractor_weights: choices.ExtractorWeights = None,
    head_weights: choices.HeadWeights = None,
    join: choices.JoinName = None,
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
    probes: Annotated[
        list[Path] | None,
        typer.Option(
            help="Your own clips: video, folder of frames, .npz, or a folder of these.", rich_help_panel=choices.AUDIT
        ),
    ] = None,
    reference: choices.References = None,
    lpips: Annotated[
        Path | None,
        typer.Option(
            help="Weights of LPIPS with AlexNet, as the lpips package saves them: scores are measured by it too.",
            rich_help_panel=choices.AUDIT,
        ),
    ] = None,
    faces: Annotated[
        bool,
        typer.Option(
            "--faces",
            help="Is a person recognised? Needs the extra fl-audit[faces], and clips with faces of 20 pixels or more.",
            rich_help_panel=choices.AUDIT,
        ),
    ] = False,
    preset: Annotated[str, typer.Option(help="fast, standard or deep.", rich_help_panel=choices.AUDIT)] = "fast",
    what_if: Annotated[
        bool | None,
        typer.Option(
            "--what-if/--no-what-if",
            help="Measure changes of batch, trained part and BatchNorm.",
            rich_help_panel=choices.AUDIT,
        ),
    ] = None,
    malicious_server: Annotated[
        bool | None,
        typer.Option(
            "--malicious-server/--no-malicious-server",
            help="What if the server manipulated the model? Never counts in the verdict [default: as --what-if, in "
            "standard and deep].",
            show_default=False,
            rich_help_panel=choices.AUDIT,
        ),
    ] = None,
    sr: Annotated[
        list[Path] | None,
        typer.Option(
            help="FILE of a super-resolution network (.pth, .safetensors, .onnx) to enhance reconstructions with; "
            "repeatable.",
            rich_help_panel=choices.AUDIT,
        ),
    ] = None,
    max_time: Annotated[
        str | None, typer.Option(help="Time for the audit, e.g. 90s, 5m, 1h.", rich_help_panel=choices.AUDIT)
    ] = None,
    seed: choices.Seed = 0,
    device: choices.Device = "auto",
    fail_on: Annotated[
        str,
        typer.Option(
            help="Lowest severity that fails the gate: critical, high, medium, low, never.",
            rich_help_panel=choices.AUDIT,
        ),
    ] = "high",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for results.json, report.html and report.pdf (default: fl-audit-report).",
            rich_help_panel=choices.OUTPUT,
        ),
    ] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            help=f"FILE to write ({' '.join(SUFFIXES)}); repeatable; replaces the folder unless --out is given too.",
            rich_help_panel=choices.OUTPUT,
        ),
    ] = None,
) -> None:
    """Audit a model: attack its updates, score what leaks, write a report.

    Exits 1 when leakage of the --fail-on severity was demonstrated, 4 when the audit cannot tell.
    """
    chosen = {
        **choices.which_model(model, weights, extractor, head, extractor_weights, head_weights, join),
        **choices.how_to_read(input_shape, layout, mean, std, value_range, temporal_pool, arg, trust_model, onnx_ops),
        "labels": choices.one_of("--labels", labels, ("distinct", "equal")),
        "batchnorm": choices.one_of("--bn", bn, ("eval", "train")),
        "loss": loss,
        "dropout": choices.one_of("--dropout", dropout, ("off", "on")),
        "send_buffers": send_buffers,
        **choices.how_clients_train(algorithm, local_epochs, local_batch, learning_rate, momentum),
        "output": model_output,
        "preset": choices.one_of("--preset", preset, ("fast", "standard", "deep")),
        "fail_on": choices.one_of("--fail-on", fail_on, ("critical", "high", "medium", "low", "never")),
        "max_time": parse_seconds(max_time) if max_time else None,
    }
    for path in probes or ():
        if not path.exists():
            raise UsageError(f"there is no {printable(str(path))}", "give --probes a video, a folder or an .npz")
    choices.check_references(reference or ())
    targets, folder = _targets(out, output)
    from auditor.report import check_outputs

    with _no_empty_folders(targets):
        check_outputs(targets)
        results = _scan(
            classes=classes,
            probes=tuple(probes or ()),
            references=tuple(reference or ()),
            lpips=lpips,
            faces=faces,
            batch=batch,
            trainable=tuple(trainable or ()),
            seed=seed,
            device=device,
            what_if=what_if,
            malicious=malicious_server,
            sr=tuple(sr or ()),
            command=("fl-audit", *sys.argv[1:]),
            **chosen,
        )
    _write(results, targets, explicit=folder is None)
    _summarise(results, targets)
    raise typer.Exit(results["verdict"]["exit_code"])


app.command()(attack)
app.command()(study)


@app.command()
def inspect(
    model: choices.OptionalModel = None,
    weights: choices.Weights = None,
    extractor: choices.Extractor = None,
    head: choices.Head = None,
    extractor_weights: choices.ExtractorWeights = None,
    head_weights: choices.HeadWeights = None,
    join: choices.JoinName = None,
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
    trainable: choices.Trainable = None,
    batch: choices.Batch = 1,
    bn: choices.BatchNorm = "eval",
    loss: choices.GuessedLoss = None,
    dropout: choices.Dropout = "off",
    send_buffers: choices.SendBuffers = False,
    algorithm: choices.AlgorithmName = "fedsgd",
    local_epochs: choices.LocalEpochs = None,
    local_batch: choices.LocalBatch = None,
    learning_rate: choices.LearningRate = None,
    momentum: choices.Momentum = None,
    seed: choices.Seed = 0,
    device: choices.Device = "cpu",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON and nothing else.", rich_help_panel=choices.OUTPUT)
    ] = False,
    frame: Annotated[
        Path | None,
        typer.Option(
            help="FILE.png for a clip as the network reads it, which shows a wrong layout or normalisation.",
            rich_help_panel=choices.OUTPUT,
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="List every layer of a long model.", rich_help_panel=choices.OUTPUT)
    ] = False,
) -> None:
    """Show how a model is read, and how faithfully, without attacking it.

    Layers, parameters, operators, checks of the import, the guessed input and loss, and what layers expose by their
    structure alone.

    Exits 0 when the model can be audited, 2 when an option is wrong, 3 when the model cannot be audited.
    """
    if frame is not None and (frame.suffix.lower() != ".png" or frame.is_dir()):
        raise UsageError(f"--frame {printable(str(frame))} is not a PNG file", "name it FILE.png")
    chosen = {
        **choices.which_model(model, weights, extractor, head, extractor_weights, head_weights, join),
        **choices.how_to_read(input_shape, layout, mean, std, value_range, temporal_pool, arg, trust_model, onnx_ops),
        "batchnorm": choices.one_of("--bn", bn, ("eval", "train")),
        "loss": loss or "",
        "dropout": choices.one_of("--dropout", dropout, ("off", "on")),
        "send_buffers": send_buffers,
        **choices.how_clients_train(algorithm, local_epochs, local_batch, learning_rate, momentum),
    }
    found = _inspect(
        classes=classes,
        output=model_output,
        batch=batch,
        trainable=tuple(trainable or ()),
        seed=seed,
        device=device,
        **chosen,
    )
    if frame is not None:
        _write_picture(frame, found.picture)
    if as_json:
        import json

        typer.echo(json.dumps(found.document, indent=2, allow_nan=False))
        return
    from rich.console import Console

    from auditor.report.inspection import inspection_view

    shown = "" if frame is None else str(frame)
    inspection_view(found.document, found.layers, found.target.name, Console(), everything=everything, frame=shown)


@app.command()
def export(
    source: Annotated[str, typer.Argument(help="path/file.py:factory, or torchvision:NAME", metavar="SOURCE")],
    output: Annotated[Path, typer.Option("-o", "--output", help="ONNX file to write.")],
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
    opset: Annotated[
        int | None, typer.Option(help="Version of the ONNX operators, 11 to 23 [default: 20].", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    seed: choices.Seed = 0,
) -> None:
    """Write a PyTorch model as ONNX so that its gradients are those that clients send.

    torch.onnx.export with its defaults merges BatchNorm into other weights and drops parameters (r3d_18 keeps 21 of
    62, 20 of them with other values), so an audit of such a file gives an upper bound at best. This command keeps every
    parameter, BatchNorm and an open batch. Before the file appears it is loaded, and its outputs, parameters and
    gradients are compared with the module's.

    Exits 0 when the file was written and verified, 2 when an option is wrong, 3 when no faithful file could be written.
    """
    chosen = choices.how_to_read(input_shape, layout, mean, std, value_range, temporal_pool, arg, trust_model)
    import warnings

    from auditor.cli.exporting import exported_text
    from auditor.model.onnx.export import export_onnx

    with warnings.catch_warnings(), _busy("exporting, then verifying"):
        warnings.simplefilter("ignore")
        made = export_onnx(
            source, output, overwrite=force, opset=opset, weights=weights, classes=classes, output=model_output,
            seed=seed, **chosen,
        )  # fmt: skip
    typer.echo(exported_text(made))


@app.command()
def report(
    results: Annotated[
        Path, typer.Argument(help="results.json of a scan, or study.json of a study", metavar="RESULTS")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for report.html and report.pdf (default: beside RESULTS).")
    ] = None,
    output: Annotated[
        list[Path] | None, typer.Option("-o", help=f"FILE to write ({' '.join(SUFFIXES)}); repeatable.")
    ] = None,
) -> None:
    """Render a report again from its results, without the model."""
    from auditor.report import check_outputs, read_results
    from auditor.report.study import write_study
    from auditor.results.reading import read_study

    study_found = read_study(results)
    if study_found is not None:
        if output:
            raise UsageError("a study is rendered into a folder", "give --out instead of -o")
        folder = out or results.parent
        for complaint in write_study(study_found, folder):
            typer.echo(f"fl-audit: {printable(complaint, 400)}", err=True)
        typer.echo(str(folder / "study.html"))
        return
    found = read_results(results)
    targets = list(output or ())
    if out is not None or not targets:
        targets += [(out or results.parent) / name for name in _DEFAULT_FILES[1:]]
    if any(_same(t, results) for t in targets):
        raise UsageError(
            f"-o {printable(str(results))} would overwrite the results it is made from", "name another file"
        )
    check_outputs(targets)
    _write(found, targets, explicit=bool(output))
    for target in targets:
        typer.echo(str(target))


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="attacks, probes, presets or all", metavar="[WHAT]")] = "all",
) -> None:
    """List attacks, probe clips and presets."""
    from auditor.cli.listing import listing

    choices.one_of("WHAT", what, ("attacks", "probes", "presets", "all"))
    typer.echo(listing(what))


@app.command()
def doctor() -> None:
    """Check this installation: libraries, shipped data, device, PDF."""
    from auditor.cli.doctor import diagnose

    checks = diagnose()
    for check in checks:
        mark = "ok  " if check.ok else "FAIL" if check.needed else "note"
        typer.echo(f"{mark}  {check.name}: {check.found}" + ("" if check.ok else f" -> {check.remedy}"))
    raise typer.Exit(ExitCode.USAGE if any(c.needed and not c.ok for c in checks) else 0)


@contextmanager
def _no_empty_folders(targets: list[Path]) -> Iterator[None]:
    """Take back the folders that a scan made for its report when it ends without one."""
    made = [folder for folder in {t.parent for t in targets} if not folder.exists()]
    try:
        yield
    except BaseException:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise


def _targets(out: Path | None, output: list[Path] | None) -> tuple[list[Path], Path | None]:
    """Return the files to write and the report folder, if there is one."""
    folder = out if out is not None else None if output else _DEFAULT_OUT
    files = list(output or ())
    if folder is not None:
        files += [folder / name for name in _DEFAULT_FILES]
    return files, folder


def _same(a: Path, b: Path) -> bool:
    return a.resolve() == b.resolve()


def _scan(**options: Any) -> dict[str, Any]:
    import warnings

    from auditor.attack import PRESETS
    from auditor.cli.progress import progress_display
    from auditor.pipeline import ScanOptions, scan

    wanted = ScanOptions(**options)
    limit = wanted.max_time or PRESETS[wanted.preset].seconds
    with warnings.catch_warnings(), progress_display(_stderr(), limit) as display:
        # Deprecations inside libraries are for developers; everything a user must know is a note or in the results.
        warnings.simplefilter("ignore")
        return dict(scan(wanted, display).results)


def _inspect(**options: Any) -> Any:
    import warnings

    from auditor.pipeline import ScanOptions, Silent
    from auditor.pipeline.inspection import inspect

    wanted = ScanOptions(**options)
    with warnings.catch_warnings(), _busy("loading and checking the model"):
        warnings.simplefilter("ignore")
        return inspect(wanted, Silent())


def _write_picture(path: Path, content: bytes) -> None:
    from auditor.report.atomic import replace_file

    try:
        replace_file(path, content)
    except OSError as error:
        raise UsageError(
            f"cannot write {printable(str(path))} ({error.strerror or type(error).__name__})", "name another file"
        ) from error


@contextmanager
def _busy(what: str) -> Iterator[None]:
    """Say on a terminal that something is being done."""
    console = _stderr()
    if not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


def _write(results: dict[str, Any], targets: list[Path], *, explicit: bool) -> None:
    from auditor.report import PdfUnavailableError, write

    try:
        complaints = write(results, targets)
    except PdfUnavailableError as error:
        if explicit:
            raise
        complaints = (str(error),)
    for complaint in complaints:
        _stderr().print(f"fl-audit: {printable(complaint, 400)}", markup=False, highlight=False, soft_wrap=True)


def _summarise(results: dict[str, Any], targets: list[Path]) -> None:
    from rich.console import Console

    from auditor.report import terminal_summary

    terminal_summary(results, Console(), [t for t in targets if t.exists()])


def _stderr() -> Any:
    from rich.console import Console

    return Console(stderr=True)


def main() -> NoReturn:
    """Run the command line; every way out is one line and a documented code."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = app(standalone_mode=False)
    except Exception as error:  # noqa: BLE001 - the edge turns everything into one line
        code = _explain(error)
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    # Typer turns an interrupt inside a command into a bare exit with this code.
    if code == ExitCode.INTERRUPTED:
        _tell(_unfinished(sys.argv[1:]), ExitCode.INTERRUPTED)
    sys.exit(int(code or 0))


def _unfinished(arguments: list[str]) -> str:
    """Say what an interrupt left undone."""
    command = next((a for a in arguments if not a.startswith("-")), "")
    left = {
        "scan": "no report was written",
        "attack": "no result was written",
        "export": "no file was written",
        "inspect": "the model was not attacked, and nothing was written",
        "study": "what was finished is kept, and the same command goes on from there",
        "report": "files that were not finished are as they were",
    }
    return f"interrupted; {left[command]}" if command in left else "interrupted"


def _interrupt(number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _explain(error: Exception) -> int:
    """Say in one line what happened and what to do, and return the code."""
    if os.environ.get("FL_AUDIT_DEBUG"):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, AuditError):
        return _tell(str(error), error.exit_code)
    if isinstance(error, typer.Abort):
        return ExitCode.INTERRUPTED
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        return _tell(f"{error.format_message()}; see fl-audit --help", ExitCode.USAGE)
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower() or "can't allocate memory" in str(error):
        return _tell("out of memory; use a smaller --input-shape or --batch, or --device cpu", ExitCode.INTERNAL)
    first = (str(error).strip().splitlines() or [""])[0]
    return _tell(
        f"internal error: {type(error).__name__}: {first}; this is a defect of fl-audit, FL_AUDIT_DEBUG=1 shows where",
        ExitCode.INTERNAL,
    )


def _tell(text: str, code: ExitCode | int) -> int:
    line = " ".join(text.split())
    print(f"fl-audit: {printable(line, 1000)}", file=sys.stderr)  # noqa: T201 - the edge prints
    return int(code)
