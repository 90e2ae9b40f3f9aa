"""`fl-audit export`: a PyTorch model as a faithful ONNX file."""

import warnings

import typer

from auditor.cli.screen import busy, starting
from auditor.cli.signatures import takes_options
from auditor.options import ExportOptions


@takes_options("export")
def export(options: ExportOptions) -> None:
    """Write a PyTorch model as ONNX so that its gradients are those that clients send.

    torch.onnx.export with its defaults merges BatchNorm into other weights and drops parameters (r3d_18 keeps 21 of
    62, 20 of them with other values), so an audit of such a file gives an upper bound at best. This command keeps every
    parameter, BatchNorm and an open batch. Before the file appears it is loaded, and its outputs, parameters and
    gradients are compared with the module's.

    Exits 0 when the file was written and verified, 2 when an option is wrong, 3 when no faithful file could be written.
    """
    with starting():
        from auditor.cli.exporting import exported_text
        from auditor.model.onnx.export import export_onnx

    with warnings.catch_warnings(), busy("exporting, then verifying"):
        warnings.simplefilter("ignore")
        made = export_onnx(
            options.source, options.output, overwrite=options.force, opset=options.opset, weights=options.weights,
            **options.reading(),
        )  # fmt: skip
    typer.echo(exported_text(made))
