"""Write docs/operators.md: every operator of the importer, and how many of ONNX's own node cases it passes.

Usage: python benchmarks/operators.py [--check]

Every case that is not named as left out is run, and one that fails stops the script. --check writes nothing and fails
when the document differs from what it would write.
"""

import difflib
import sys
from collections import Counter
from pathlib import Path

import onnx

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "model")]

from node_cases import all_cases, check, left_out, names_by_operator  # noqa: E402

from auditor.model.onnx.operators import OPERATORS  # noqa: E402
from auditor.model.onnx.operators.versions import NEWEST, OLDEST, WITHOUT_EFFECT  # noqa: E402
from auditor.model.onnx.support import CONTROL  # noqa: E402

DOCUMENT = ROOT / "docs" / "operators.md"
# What no importer of models for training needs, by the reason.
REFUSED = {
    "the gradient of a quantised value is not what clients train": (
        "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger",
        "MatMulInteger",
    ),
    "drawn at random at every call (stochastic depth of PyTorch's exports is switched off)": (
        "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
    ),
    "texts, images or tables, not part of a network": (
        "StringConcat", "StringNormalizer", "StringSplit", "RegexFullMatch", "TfIdfVectorizer", "ImageDecoder",
    ),
    "losses: an audit needs the logits": ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"),
    "the output's shape depends on the clip": ("NonMaxSuppression", "Unique"),
}  # fmt: skip


def opsets(domain: str, name: str) -> str:
    """Return the operator sets that hold an operator, as far as they are read."""
    if domain:
        return "1"
    last = onnx.defs.get_schema(name, NEWEST, "")
    if last.deprecated:
        return f"{OLDEST} to {last.since_version - 1}"
    version = NEWEST
    while version >= OLDEST:
        try:
            since = onnx.defs.get_schema(name, version, "").since_version
        except onnx.defs.SchemaError:
            break
        version = since - 1
    return f"{max(version + 1, OLDEST)} to {NEWEST}"


def rows(run: bool) -> list[str]:
    """Return one line of the table for every operator, running its cases if wanted."""
    cases = dict(names_by_operator())
    lines = []
    for domain, name in sorted({*OPERATORS, *(("", control) for control in CONTROL), ("", "Constant")}):
        names = cases.get((domain, name), ())
        reasons = Counter(reason for reason in map(left_out, names) if reason)
        if run:
            for case in names:
                if not left_out(case):
                    check(case)
        passed = len(names) - sum(reasons.values())
        why = "; ".join(f"{count}: {reason}" for reason, count in sorted(reasons.items()))
        counted = f"{passed} of {len(names)}" if names else "no case exists"
        lines.append(f"| {f'{domain}.' if domain else ''}{name} | {opsets(domain, name)} | {counted} | {why} |")
    return lines


def document(run: bool = True) -> str:
    """Return the text of docs/operators.md."""
    known = {name for domain, name in OPERATORS if not domain} | {*CONTROL, "Constant"}
    passed = [name for name in all_cases() if not left_out(name)]
    schemas = {s.name for s in onnx.defs.get_all_schemas() if s.domain == "" and s.name not in known}
    told = {name for names in REFUSED.values() for name in names}
    return "\n".join(
        [
            "# Operators",
            "",
            "Written by `python benchmarks/operators.py`, which runs every case it counts. A test keeps it current.",
            "",
            f"fl-audit reads {len(known)} operators of ONNX, operator sets {OLDEST} to {NEWEST}. Of the "
            f"{len(all_cases())} node cases of onnx {onnx.__version__} (`onnx.backend.test`), {len(passed)} use these "
            "operators alone and pass. A case may be about several operators, and its expanded form counts as a case. "
            "A newer operator set is read as the newest known one, and the report says so. An attribute that an "
            "operator does not have in these sets is refused, unless it has its default in the newer set: then the "
            "report says so.",
            "",
            "| operator | operator sets | node cases that pass | left out, and why |",
            "|---|---|---|---|",
            *rows(run),
            "",
            "## Attributes without effect",
            "",
            *(f"- `{name}`: {why}." for name, why in WITHOUT_EFFECT.items()),
            "",
            "## Operators that are not read",
            "",
            *(f"- {', '.join(sorted(names))}: {why}." for why, names in REFUSED.items()),
            f"- {', '.join(sorted(schemas - told))}: not seen in exported video models. Add them as below.",
            "",
            "The message that refuses a file names all such operators at once, how often each occurs, and their nodes.",
            "",
            "## Second derivatives",
            "",
            "Gradient attacks differentiate twice. For every operator with a gradient, first and second derivatives by",
            "the clip are compared with finite differences in float64 on its smallest node case "
            "(`tests/model/onnx/test_model_operators.py`).",
            "Operators without a gradient, or with one that is zero wherever it exists, are listed there by name.",
            "",
            "## Operators of your own",
            "",
            "`fl-audit scan model.onnx --onnx-ops ops.py` adds the operators that a Python file declares, for this run "
            "only; the option may be repeated, and the file is executed. `examples/onnx_operators.py` is such a file:",
            "",
            "```python",
            "import torch",
            "",
            "from auditor import operator",
            "",
            "",
            '@operator("GatedConv", domain="com.example", weights=(1, 2))',
            "def gated_conv(attributes):",
            '    stride = attributes.get("strides", (1, 1, 1))',
            "",
            "    def forward(x, weight, bias=None):",
            "        value, gate = torch.nn.functional.conv3d(x, weight, bias, stride).chunk(2, 1)",
            "        return value * torch.sigmoid(gate)",
            "",
            "    return forward",
            "```",
            "",
            "- The decorated function gets a node's attributes as Python values and returns what runs at every call.",
            "- `weights` names the inputs that clients train: float initializers there become parameters.",
            "- `numbers` names the inputs that are shapes, axes or counts: they arrive as tuples of Python numbers.",
            "- Several outputs are a tuple. An input that a node leaves out is None.",
            "- It must be made of torch operations that can be differentiated twice; loading checks both derivatives.",
            "- ONNX Runtime does not know such operators, so outputs are not compared with it, and the report says so.",
            "- With an empty domain it replaces an operator of fl-audit, which the report says too.",
            "",
        ]
    )


def main() -> None:
    """Write the document, or compare it."""
    text = document()
    if "--check" not in sys.argv:
        DOCUMENT.write_text(text, encoding="utf-8")
        return
    old = DOCUMENT.read_text(encoding="utf-8")
    if old != text:
        sys.exit(
            "\n".join(difflib.unified_diff(old.splitlines(), text.splitlines(), "docs/operators.md", "now", "", "", 0))
        )


if __name__ == "__main__":
    main()
