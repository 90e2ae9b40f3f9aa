"""A single number that the logits of a file are multiplied by: it may be a temperature that clients learn."""

from collections.abc import Collection

from auditor.model.onnx.graph import Graph
from auditor.text import printable

# What stands between the logits and the file's output, and leaves a scale a scale.
BEHIND = ("Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast", "Softmax", "LogSoftmax", "Sigmoid")
LONGEST_CHAIN = 64


def scale_notes(graph: Graph, parameters: Collection[str]) -> list[str]:
    """Return a sentence for each output whose logits are multiplied, or divided, by a number that is no parameter."""
    producers = {name: node for node in graph.nodes for name in node.outputs if not node.domain}
    notes = []
    for output in graph.outputs:
        name = output
        for _ in range(LONGEST_CHAIN):
            node = producers.get(name)
            if node is None or node.operator not in BEHIND:
                break
            name = node.inputs[0]
        if node is None or node.operator not in ("Mul", "Div"):
            continue
        scales = [name for name in node.inputs if name in graph.constants and graph.constants[name].numel() == 1]
        for scale in scales:
            number = float(graph.constants[scale].reshape(-1)[0])
            if scale not in parameters and number != 1:
                what = "multiplied" if node.operator == "Mul" else "divided"
                notes.append(
                    f"The logits are {what} by {number:.6g} ('{printable(scale, 60)}'), which is taken as fixed. If it "
                    "was computed from a temperature that clients learn, its gradient is missing here: an export with "
                    "optimize=False keeps it, and a PyTorch factory too."
                )
    return notes
