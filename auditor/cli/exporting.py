"""What `fl-audit export` prints: the file, and the proof that it is faithful."""

import shlex

from auditor.model.onnx.export import DYNAMO, Exported
from auditor.text import printable

WHY = (
    "torch.onnx.export with its defaults would not do: it merges BatchNorm into other weights and drops names "
    "(torchvision's r3d_18 keeps 21 of 62 parameters, 20 of them with other values), so its gradients are not those "
    "that clients send."
)


def exported_text(exported: Exported) -> str:
    """Return the lines that tell what was written and how it was verified."""
    agreement, target = exported.agreement, exported.target
    kept = target.fidelity.batchnorm == "kept"
    sizes = ", ".join(map(str, agreement.outputs))
    rows = [
        ("parameters", f"{agreement.matched} of {agreement.parameters} under their own names, with equal values"),
        ("BatchNorm", f"kept ({target.fidelity.batchnorm_evidence})" if kept else "the model has none"),
        ("outputs", f"differ by at most {max(agreement.outputs.values()):.1e} of the largest logit (batch {sizes})"),
        ("gradients", f"differ by at most {agreement.gradient or 0.0:.1e} of a parameter's largest entry"),
        ("runtime", _runtime(exported)),
        ("batch", "open: any number of clips"),
    ]
    if agreement.unused:
        names = ", ".join(printable(name, 40) for name in agreement.unused[:3])
        rows.append(("left out", f"{len(agreement.unused)} parameters that the output does not depend on ({names})"))
    if exported.exporter != DYNAMO:
        rows.append(("exporter", f"the older one, since with the newer: {printable(exported.fallback, 300)}"))
    path = printable(str(exported.path), 400)
    size = f"{exported.size / 2**20:.1f} MiB" if exported.size > 2**20 else f"{exported.size / 2**10:.0f} KiB"
    head = f"wrote {path} ({size}, opset {exported.opset}, by {exported.exporter}), and verified it:"
    body = "\n".join(f"  {label:<11} {text}" for label, text in rows)
    return f"{head}\n{body}\n\n{WHY}\n\nnext: fl-audit scan {shlex.quote(path)}{_how_to_read(exported)}"


def _runtime(exported: Exported) -> str:
    if not exported.parity:
        return "not compared with ONNX Runtime"
    return f"ONNX Runtime differs by at most {max(exported.parity.values()):.1e} of the largest logit"


def _how_to_read(exported: Exported) -> str:
    """What an ONNX file cannot say about its input, as options."""
    spec = exported.target.input
    options = ""
    if spec.layout in ("NCHW", "NHWC") and spec.frames > 1:
        axes = (spec.frames, spec.channels, spec.height, spec.width)
        if spec.layout == "NHWC":
            axes = (spec.frames, spec.height, spec.width, spec.channels)
        options += f" --layout {spec.layout} --input-shape {','.join(map(str, axes))}"
    if spec.mean != (0.0,):
        options += f" --mean {','.join(f'{v:g}' for v in spec.mean)}"
    if spec.std != (1.0,):
        options += f" --std {','.join(f'{v:g}' for v in spec.std)}"
    if spec.value_range != (0.0, 1.0):
        options += f" --range {','.join(f'{v:g}' for v in spec.value_range)}"
    if exported.temporal_pool is not None:
        options += f" --temporal-pool {exported.temporal_pool}"
    return options
