"""Whether an ONNX file still holds the batch normalisation that clients train, and what in the file tells."""

import re
from collections.abc import Iterator, Sequence
from typing import Literal

from auditor.model.onnx.graph import Graph, Node
from auditor.model.onnx.parameters.trainable_constants import INVENTED
from auditor.records import record
from auditor.text import printable

Word = Literal["none", "kept", "folded", "maybe folded"]

MERGING = ("Conv", "ConvTranspose", "Gemm", "MatMul")
NORMS = ("InstanceNormalization", "GroupNormalization", "LayerNormalization", "RMSNormalization")
RULE_KEY, RULE = "pkg.onnxscript.rewriter.rule_name", "FuseBatchNorm"
DYNAMO = "pkg.torch.onnx."
MODULE_CLASS = re.compile(r"modules\.batchnorm\.\w+")
# torch's TorchScript exporter names the bias that it makes when it merges batch normalisation into a convolution.
LEGACY_BIAS = re.compile(r"^onnx::Conv(Transpose)?_\d+$")
# Simplifiers and tf2onnx say it in the name.
SAID_IN_NAME = re.compile(r"fused?_?bn|bn_?fused?|batch_?norm\w*_?fused?", re.IGNORECASE)
SHOWN = 3


@record
class BatchNormState:
    """What became of batch normalisation at export.

    Attributes
    ----------
    word
        none, kept, folded (certain), or maybe folded (nothing in the file rules it out).
    how
        The evidence, as the end of a sentence.
    """

    word: Word
    how: str


def batchnorm_state(graph: Graph, producer: str) -> BatchNormState:
    """Tell whether the file kept batch normalisation or merged it into other weights.

    `producer` is the name of the program that wrote the file. Folding is called certain only on evidence that nets
    without batch normalisation do not show: a rewriting rule or a module class that the exporter recorded, or a bias
    that the exporter made.
    """
    nodes = list(graph.walk())
    kept = [node for node in nodes if node.operator == "BatchNormalization"]
    left = f"; {len(kept)} BatchNormalization nodes are left" if kept else ""
    merging = [node for node in nodes if node.operator in MERGING]
    evidence = next(_certain(graph, merging), "")
    if evidence:
        return BatchNormState(word="folded", how=evidence + left)
    if kept:
        modes = "training" if any(is_training(node) for node in kept) else "inference"
        return BatchNormState(word="kept", how=f"{_nodes(len(kept), 'BatchNormalization node')} in {modes} mode")
    biased = [node for node in merging if node.operator in ("Conv", "ConvTranspose") and len(node.inputs) > 2]
    if not biased:
        return BatchNormState(word="none", how="no convolution has a bias that it could be merged into")
    others = sorted({node.operator for node in nodes if node.operator in NORMS})
    if all(_recorded(node) for node in biased):
        return BatchNormState(
            word="none", how="the exporter recorded what each convolution was, and none was a BatchNorm"
        )
    named = all(not INVENTED.match(node.inputs[2]) for node in biased)
    if producer == "pytorch" and named:
        return BatchNormState(
            word="none", how="every bias of a convolution kept its name, which this exporter changes when it merges"
        )
    if named and others:
        return BatchNormState(word="none", how=f"the network normalises by {', '.join(others)}")
    return BatchNormState(
        word="maybe folded",
        how=f"{_nodes(len(biased), 'convolution')} with a bias and no normalisation node; "
        "nothing in the file tells whether BatchNorm was merged into them",
    )


def is_training(node: Node) -> bool:
    """Tell whether a node was written for training: batch statistics, or active dropout."""
    if node.operator == "BatchNormalization":
        return bool(node.attributes.get("training_mode")) or len(node.outputs) > 1
    return node.operator == "Dropout" and len(node.inputs) > 2


def _certain(graph: Graph, merging: Sequence[Node]) -> Iterator[str]:
    rules = [node for node in graph.walk() if RULE in node.metadata.get(RULE_KEY, "")]
    if rules:
        rule = next(r for r in rules[0].metadata[RULE_KEY].split(", ") if RULE in r)
        yield f"recognised by the exporter's note {printable(rule, 40)} on {_nodes(len(rules), 'node')}"
    classes = [node for node in merging if any(MODULE_CLASS.search(text) for text in node.metadata.values())]
    if classes:
        yield (
            f"recognised by {_nodes(len(classes), f'{classes[0].operator} node')} that the exporter recorded "
            "as a BatchNorm module"
        )
    roots = {node.outputs[0]: node.inputs[0] for node in graph.walk() if node.operator == "Identity" and node.inputs}
    biases = [_chased(node.inputs[2], roots) for node in merging if len(node.inputs) > 2 and node.inputs[2]]
    made = [name for name in biases if LEGACY_BIAS.match(name)]
    if made:
        yield f"recognised by biases that the exporter made: {_names(made)}"
    weights = [name for node in merging for name in node.inputs[1:3]]
    said = [name for name in weights if SAID_IN_NAME.search(name)]
    if said:
        yield f"recognised by names that say so: {_names(said)}"
    beside = [
        node.inputs[2]
        for node in merging
        if len(node.inputs) > 2 and node.inputs[2] == f"{node.inputs[1]}_bias" and node.inputs[1].endswith(".weight")
    ]
    if beside:
        yield f"recognised by biases named after their weights: {_names(beside)}"


def _chased(name: str, aliases: dict[str, str]) -> str:
    seen = set()
    while name in aliases and name not in seen:
        seen.add(name)
        name = aliases[name]
    return name


def _recorded(node: Node) -> bool:
    return any(key.startswith(DYNAMO) for key in node.metadata)


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name, 40) for name in names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"


def _nodes(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
