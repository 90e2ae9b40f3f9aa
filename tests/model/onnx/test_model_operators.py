"""ONNX's own node cases for every operator of the importer, and second derivatives of each."""

import warnings
from pathlib import Path

import onnx
import pytest
import torch
from node_cases import KNOWN, all_cases, check, left_out, names_by_operator, operators_of, prepare

from auditor.model.onnx.operators import OPERATORS
from auditor.model.onnx.operators.versions import NEWEST, WITHOUT_EFFECT, understood
from auditor.model.onnx.support import CONTROL

CASES = [name for name in all_cases() if not left_out(name)]
# ONNX has no case for these in the operator sets it generates cases for; tests of models cover them.
NO_CASE = {"ConcatFromSequence", "GlobalLpPool", "SequenceErase", "SequenceEmpty", "SequenceAt", "Upsample", "Scatter"}
# Attributes that no case sets.
NOT_SET = {
    ("BatchNormalization", "epsilon"),  # read behind the interpreter's own copy of the attributes
    ("BatchNormalization", "momentum"),
    ("BatchNormalization", "spatial"),
    ("ConcatFromSequence", "axis"),
    ("ConcatFromSequence", "new_axis"),
    ("GlobalLpPool", "p"),
    ("SequenceEmpty", "dtype"),
    ("Slice", "starts"),
    ("Slice", "ends"),
}
# No derivative, or zero wherever it exists.
WITHOUT_GRADIENT = {
    "ArgMax", "ArgMin", "Ceil", "Floor", "Round", "Sign", "Hardmax", "EyeLike", "Shape", "Size", "IsInf", "IsNaN",
    "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "NonZero", "OneHot", "Range", "ConstantOfShape",
    "SequenceLength", "Cast", "CastLike", "Constant", "Mod",
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_node_case(name: str) -> None:
    check(name)


def test_every_operator_of_the_importer_has_cases() -> None:
    assert len(CASES) > 1420
    covered = {op for name in CASES for domain, op in operators_of(all_cases()[name]) if not domain}
    assert KNOWN - covered <= NO_CASE


def test_the_document_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[3]
    monkeypatch.syspath_prepend(str(root))
    from benchmarks.operators import document

    text = (root / "docs" / "operators.md").read_text(encoding="utf-8")
    if f"onnx {onnx.__version__} " not in text:
        pytest.skip("the document was written with another version of onnx")
    assert text == document(run=False), "run python benchmarks/operators.py"


def test_every_attribute_is_looked_at() -> None:
    read: set[tuple[str, str]] = set()
    names = dict(names_by_operator())
    for domain, operator in OPERATORS:
        pending = {(operator, a) for a in understood(domain, operator) if not domain and a not in WITHOUT_EFFECT}
        for name in names.get((domain, operator), ()):
            if not pending - NOT_SET - read:
                break
            if not left_out(name):
                check(name, read)
        assert pending - NOT_SET <= read, operator


def test_the_newest_operator_set_is_known() -> None:
    assert onnx.defs.onnx_opset_version() <= NEWEST, "read the changes of the operator set, then raise NEWEST"


def differentiable() -> list[tuple[str, str]]:
    """Return (operator, case): the smallest case of each operator whose clip has a gradient."""
    chosen = []
    for (domain, operator), names in names_by_operator():
        if domain or operator not in KNOWN - WITHOUT_GRADIENT - set(CONTROL):
            continue
        able = []
        for name in names:
            if left_out(name) or "expanded" in name:
                continue
            prepared = prepare(name)
            floating = [o for o, v in prepared.outputs if isinstance(v, torch.Tensor) and v.is_floating_point()]
            if prepared.live and floating and prepared.clip.numel():
                able.append((prepared.clip.numel(), name))
        if able:
            chosen.append((operator, min(able)[1]))
    return chosen


DIFFERENTIABLE = differentiable()


@pytest.mark.parametrize(("operator", "name"), DIFFERENTIABLE)
def test_second_derivatives(operator: str, name: str) -> None:
    prepared = prepare(name)
    output = next(o for o, v in prepared.outputs if v.is_floating_point())
    module = prepared.module(output)
    # Off the kinks and poles that the cases like to sit on.
    generator = torch.Generator().manual_seed(0)
    shift = 0.01 * torch.randn(prepared.clip.shape, generator=generator, dtype=torch.float64)
    shift = shift.abs() if operator == "Acosh" else shift  # defined from 1 on, where its case begins
    clip = (prepared.clip.double() + shift).requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.autograd.gradcheck(module, clip, fast_mode=True, atol=1e-4)
        assert torch.autograd.gradgradcheck(module, clip, fast_mode=True, atol=1e-4)
