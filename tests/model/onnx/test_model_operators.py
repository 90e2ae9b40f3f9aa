"""ONNX's own node cases for every operator of the importer, and second derivatives of each."""

import functools
import warnings
from collections.abc import Mapping
from pathlib import Path

import onnx
import pytest
import torch
from node_cases import KNOWN, all_cases, check, left_out, names_by_operator, operators_of, prepare

from auditor.model.onnx.operators import OPERATORS
from auditor.model.onnx.operators.versions import NEWEST, WITHOUT_EFFECT, understood
from auditor.model.onnx.support import CONTROL

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
    "SequenceLength", "Cast", "CastLike", "Constant", "Mod", "And", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr",
    "BitwiseXor", "Not", "Or", "Xor",
}  # fmt: skip
# No case of these reads one tensor of floats and returns another.
OTHER_VALUES = {
    "ConcatFromSequence", "GlobalLpPool", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase",
    "SequenceInsert", "SplitToSequence", "Trilu",
}  # fmt: skip
WITH_GRADIENT = KNOWN - WITHOUT_GRADIENT - OTHER_VALUES - set(CONTROL)


@functools.cache
def cases() -> Mapping[str, tuple[str, ...]]:
    """Return the cases that must pass by one operator that each runs; made when asked for, which takes seconds."""
    found: dict[str, list[str]] = {}
    for name in all_cases():
        if not left_out(name):
            found.setdefault(min(op for _, op in operators_of(all_cases()[name])), []).append(name)
    return {operator: tuple(names) for operator, names in found.items()}


@pytest.mark.parametrize("operator", sorted(KNOWN))
def test_node_cases(operator: str) -> None:
    failed = {}
    for name in cases().get(operator, ()):
        try:
            check(name)
        except Exception as error:  # noqa: BLE001 - each is told
            failed[name] = f"{type(error).__name__}: {error}"
    assert not failed


def test_every_operator_of_the_importer_has_cases() -> None:
    checked = [name for operator in KNOWN for name in cases().get(operator, ())]
    assert len(checked) == sum(map(len, cases().values())) > 1420
    covered = {op for name in checked for domain, op in operators_of(all_cases()[name]) if not domain}
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


@functools.cache
def differentiable() -> Mapping[str, str]:
    """Return the smallest case of each operator whose clip has a gradient."""
    chosen = {}
    for (domain, operator), names in names_by_operator():
        if domain or operator not in WITH_GRADIENT:
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
            chosen[operator] = min(able)[1]
    return chosen


def test_every_operator_with_a_gradient_is_differentiated() -> None:
    assert differentiable().keys() == WITH_GRADIENT


@pytest.mark.parametrize("operator", sorted(WITH_GRADIENT))
def test_second_derivatives(operator: str) -> None:
    prepared = prepare(differentiable()[operator])
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
