"""The line that exports a model again so that its gradients are those that clients send."""

# dynamo writes opset 18 and newer without converting, which renames nothing.
OLDEST_OPSET, NEWEST_OPSET = 18, 23
COMMAND = "fl-audit export FILE.py:FACTORY -o model.onnx"


def reexport_line(one: tuple[int, ...], opset: int) -> str:
    """Return one line of Python that writes `model` (an `nn.Module`) with every parameter, BatchNorm and an open batch.

    `one` is the shape of one input, without batch.

    >>> reexport_line((3, 8, 32, 32), 17)[:66]
    'torch.onnx.export(model.eval(), (torch.rand(2, 3, 8, 32, 32),), "m'
    """
    shape = ", ".join(str(extent) for extent in (2, *one))
    version = min(max(opset, OLDEST_OPSET), NEWEST_OPSET)
    return (
        f'torch.onnx.export(model.eval(), (torch.rand({shape}),), "model.onnx", dynamo=True, optimize=False, '
        f'opset_version={version}, dynamic_shapes=({{0: torch.export.Dim("batch")}},))'
    )
