"""A graph without its BatchNorm."""

from onnx import ModelProto, helper

from auditor.model.surgery.refusal import refused


def change_norm(model: ModelProto, value: str, seed: int) -> str:
    """Leave every BatchNormalization out.

    Raises
    ------
    UsageError
        The graph has none, or another normalisation is asked for.
    """
    change, graph = f"norm={value}", model.graph
    if value != "none":
        raise refused(change, "in an ONNX graph normalisation can be left out only", "give path/file.py:factory")
    found = [node for node in graph.node if node.op_type == "BatchNormalization"]
    if not found:
        raise refused(change, "the graph has no BatchNormalization (an exporter may have merged it into weights)")
    nodes = [
        helper.make_node("Identity", [node.input[0]], [node.output[0]], name=node.name) if node in found else node
        for node in graph.node
    ]
    del graph.node[:]
    graph.node.extend(nodes)
    read = {value for node in graph.node for value in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return f"{len(found)} layers of normalisation are left out"
