"""The fidelity block in words, one place for HTML, PDF, Markdown and terminal."""

from collections.abc import Mapping
from typing import Any

from auditor.report import figures
from auditor.report.language import recorded, say

Row = tuple[str, str]

RECIPE = "fl-audit export FILE.py:FACTORY -o model.onnx"
UPPER_BOUND = "The gradients are those of another graph than clients train: read every number as an upper bound."
_SEMANTICS = {"eval": "the file was written for evaluation", "train": "the file was written for training"}


def fidelity_rows(fidelity: Mapping[str, Any], parameters: Mapping[str, Any] | None = None) -> tuple[Row, ...]:
    """Return what was checked and what came out, as pairs of label and text.

    `fidelity` may lack what older results do not hold; `parameters` is `model.parameters` of the results.
    """
    rows = [(say("Read from"), recorded(fidelity.get("origin") or "not recorded"))]
    if parameters is not None:
        rows.append(
            (
                say("Parameters"),
                say(
                    "%(found)s found, %(elements)s elements; %(sent)s trained and sent, %(travelling)s elements",
                    found=figures.whole(parameters["tensors"]),
                    elements=figures.whole(parameters["elements"]),
                    sent=figures.whole(parameters["sent_tensors"]),
                    travelling=figures.whole(parameters["sent_elements"]),
                ),
            )
        )
    rows += [
        ("BatchNorm", batchnorm(fidelity)),
        (say("Mode"), _mode(fidelity)),
        (say("Batch"), recorded(str(fidelity["batch"]))),
        (say("Outputs"), outputs(fidelity)),
        (say("Gradients"), gradients(fidelity)),
        (
            say("Second order"),
            say("derivatives exist and are finite") if fidelity["double_backward"] else say("missing or not checked"),
        ),
    ]
    counted = fidelity.get("unaccounted")
    rows.append((say("Not accounted for"), unaccounted(counted) if counted else say("not counted")))
    return tuple(rows)


_SECOND = {True: "2nd order yes", False: "2nd order no", None: "2nd order not tried"}


def unaccounted(counted: Mapping[str, Any]) -> str:
    """How much of the file or forward pass no attack looks at, in one line.

    >>> nothing = {"numbers": 0, "fixed": 0, "of_numbers": 25700, "without_gradient": 0, "pixels": "", "assumed": []}
    >>> unaccounted(nothing)
    'none of 25,700 float numbers'
    >>> unaccounted({**nothing, "numbers": 300, "fixed": 100, "pixels": "0.00392 x"})
    '200 of 25,700 float numbers (and 100 known to be fixed); pixels x enter as 0.00392 x'
    """
    unknown = counted["numbers"] - counted["fixed"]
    first = say(
        "%(n)s of %(all)s float numbers",
        n=figures.whole(unknown) if unknown else say("none"),
        all=figures.whole(counted["of_numbers"]),
    )
    if counted["fixed"]:
        first += say(" (and %(n)s known to be fixed)", n=figures.whole(counted["fixed"]))
    parts = [first]
    if counted["without_gradient"]:
        parts.append(say("%(n)s in parameters without gradient", n=figures.whole(counted["without_gradient"])))
    if counted["pixels"]:
        parts.append(say("pixels x enter as %(formula)s", formula=counted["pixels"]))
    if counted["assumed"]:
        parts.append(say("assumed: %(what)s", what=", ".join(counted["assumed"])))
    return "; ".join(parts)


def not_seen(fidelity: Mapping[str, Any]) -> tuple[str, ...]:
    """Sentences on what derivatives do not see and checks that were not made."""
    return (*fidelity.get("blind", ()), *fidelity.get("missing", ()))


def _mode(fidelity: Mapping[str, Any]) -> str:
    if _is_module(fidelity):
        return say("evaluation; --bn says what BatchNorm does at clients")
    return say(_SEMANTICS.get(fidelity.get("semantics", ""), "not recorded"))


def _is_module(fidelity: Mapping[str, Any]) -> bool:
    return bool(fidelity.get("origin", "").startswith("PyTorch"))


def batchnorm(fidelity: Mapping[str, Any]) -> str:
    """What became of BatchNorm, and how that was recognised."""
    how = fidelity.get("batchnorm_evidence")
    kept = recorded(str(fidelity["batchnorm"]))
    return f"{kept}: {recorded(how)}" if how else kept


def outputs(fidelity: Mapping[str, Any]) -> str:
    """How far outputs agree with ONNX Runtime.

    >>> outputs({"parity": {"1": 2e-7, "2": 3e-7}, "parity_max_error": 3e-7})
    'differ from ONNX Runtime by 2e-07 at batch 1 and 3e-07 at batch 2, of the largest logit'
    """
    errors = fidelity.get("parity") or {}
    if errors:
        each = say(" and ").join(
            say("%(error)s at batch %(size)s", error=figures.tiny(error), size=size) for size, error in errors.items()
        )
        return say("differ from ONNX Runtime by %(errors)s, of the largest logit", errors=each)
    if fidelity["parity_max_error"] is not None:
        error = figures.tiny(fidelity["parity_max_error"])
        return say("differ from ONNX Runtime by %(error)s of the largest logit", error=error)
    if _is_module(fidelity):
        return say("nothing to compare: the module itself runs")
    return say("not compared with ONNX Runtime")


def gradients(fidelity: Mapping[str, Any]) -> str:
    """How far gradients agree with finite differences."""
    error = fidelity["gradient_check"]
    if error is None:
        return say("not compared with finite differences")
    return say("differ from finite differences by %(error)s, relative", error=figures.tiny(error))


def in_short(fidelity: Mapping[str, Any]) -> tuple[str, ...]:
    """The block in lines of a terminal: what was checked, and what is not accounted for, or how to export again."""
    if fidelity["upper_bound"]:
        return "UPPER BOUND: BatchNorm was folded at export, clients train another graph", f"Run {RECIPE}"
    parity, gradient = fidelity["parity_max_error"], fidelity["gradient_check"]
    outputs_in_short = "module itself" if _is_module(fidelity) else "outputs unchecked"
    parts = (
        f"BatchNorm {fidelity['batchnorm']}",
        outputs_in_short if parity is None else f"outputs {figures.tiny(parity)}",
        "gradients unchecked" if gradient is None else f"gradients {figures.tiny(gradient)}",
        _SECOND[fidelity["double_backward"]],
    )
    counted = fidelity.get("unaccounted")
    lines = [", ".join(parts)]
    if fidelity.get("blind"):
        lines.append("BLIND: slopes do not reach all that an update depends on")
    if counted:
        lines.append(f"not accounted for: {unaccounted(counted)}")
    return tuple(lines)
