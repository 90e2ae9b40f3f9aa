"""Whether every node of a graph can be differentiated: all that cannot are told at once, before anything runs."""

import re
from collections import Counter

from auditor.errors import NotAuditable, UsageError
from auditor.model.onnx.graph import Graph, Node
from auditor.model.onnx.operators import OPERATORS, Operators, UnsupportedError
from auditor.model.onnx.operators.custom import UserOperatorError
from auditor.model.onnx.operators.versions import NEWEST, OLDEST, default_of, understood
from auditor.text import printable

CONTROL = ("If", "Loop", "Scan")
ADD_OR_REPLACE = (
    "give the model as a PyTorch factory (path/file.py:factory), or add the operators in a Python file: "
    "--onnx-ops ops.py, see docs/operators.md"
)

WAYS_FORWARD = (
    "give the model as a PyTorch factory (path/file.py:factory), or export it again with "
    "torch.onnx.export(..., dynamo=True, optimize=False)"
)

QUANTISED = re.compile(
    r"quantize|QLinear|MatMulInteger|ConvInteger|MatMulNBits|MatMulBnb4|QAttention|QEmbed|QGemm|QMoE|QOrdered",
    re.IGNORECASE,
)
MOST_SHOWN = 60  # kinds of operators in one message: models have fewer, crafted files any number


def check_supported(graph: Graph, operators: Operators = OPERATORS) -> list[str]:
    """Raise one error that lists every operator without an implementation; return what else is to be told.

    Returns
    -------
    Sentences: an operator set newer than the newest known one, attributes that are unknown but at their default, and
    operators that come from a file of the user's.

    Raises
    ------
    NotAuditable
        With each operator, how often it occurs and up to three of its nodes.
    UsageError
        A user's operator raised when it was given a node's attributes.
    """
    missing: dict[str, list[str]] = {}
    harmless: Counter[str] = Counter()
    for node in graph.walk():
        what = _obstacle(node, operators, harmless)
        if what:
            missing.setdefault(what, []).append(node.name or (node.outputs[0] if node.outputs else "unnamed"))
    if missing:
        lines = [
            f"{printable(what)} x{len(names)} ({', '.join(printable(name, 60) for name in names[:3])})"
            for what, names in sorted(missing.items())[:MOST_SHOWN]
        ]
        if len(missing) > MOST_SHOWN:
            lines.append(f"and {len(missing) - MOST_SHOWN} more")
        if any(QUANTISED.search(what) for what in missing):
            raise NotAuditable(f"the model is quantised: {'; '.join(lines)}", "audit the float model it was made from")
        raise NotAuditable(f"the graph uses operators that have no gradient here: {'; '.join(lines)}", ADD_OR_REPLACE)
    notes = [f"{what} has its default, and is not known here otherwise." for what in sorted(harmless)[:MOST_SHOWN]]
    newest = max((node.opset for node in graph.walk() if not node.domain), default=0)
    if newest > NEWEST:
        notes.append(f"The file declares operator set {newest}; it was read as set {NEWEST}, the newest known.")
    return [*notes, *_added(graph, operators)]


def _obstacle(node: Node, operators: Operators, harmless: Counter[str]) -> str:
    """Return why a node cannot run, or an empty text."""
    key = (node.domain, node.operator)
    if key not in operators:
        if node.operator in CONTROL and not node.domain:
            return ""
        return f"{node.domain}.{node.operator}" if node.domain else node.operator or "an operator without a name"
    if not operators[key].origin:
        if not node.domain and 0 < node.opset < OLDEST:
            return f"{node.operator} of operator set {node.opset}"
        unknown = sorted(node.attributes.keys() - understood(*key))
        plain = [name for name in unknown if _is_default(node, name)]
        harmless.update(f"Attribute {printable(name, 60)} of {node.operator}" for name in plain)
        refused = [name for name in unknown if name not in plain]
        if refused:
            return f"{node.operator} with attribute {', '.join(refused)}"
    try:
        operators[key].build(node)
    except UnsupportedError as error:
        return str(error)
    except UserOperatorError as error:
        raise UsageError(str(error), "correct the file given with --onnx-ops") from error
    except (KeyError, AttributeError, TypeError, IndexError):
        return f"{node.operator} with damaged attributes"
    return ""


def _is_default(node: Node, attribute: str) -> bool:
    default = default_of(node.domain, node.operator, attribute, node.opset)
    return default is not None and node.attributes[attribute] == default


def _added(graph: Graph, operators: Operators) -> list[str]:
    used = Counter((node.domain, node.operator) for node in graph.walk())
    sources: dict[str, list[str]] = {}
    for key, count in sorted(used.items()):
        if key in operators and operators[key].origin:
            name = printable(".".join(part for part in key if part), 80)
            replaced = ", in place of the one shipped here" if key in OPERATORS else ""
            sources.setdefault(operators[key].origin, []).append(f"{name} x{count}{replaced}")
    return [
        f"Operators taken from {origin}, whose correctness is yours to vouch for: {'; '.join(names)}."
        for origin, names in sources.items()
    ]
