"""Which models a command line compares, under which names."""

import pytest

from auditor.comparison.candidates import candidates_of
from auditor.comparison.options import ComparedModels
from auditor.errors import UsageError
from auditor.option_rules import options_from
from auditor.options import ScanOptions


def names(model: str, *others: str, **given: object) -> list[str]:
    scan = {k: v for k, v in given.items() if k not in ("vary", "change")}
    more = {k: v for k, v in given.items() if k in ("vary", "change")}
    options = options_from(ScanOptions, {"model": model, **scan})
    return [c.name for c in candidates_of(options, options_from(ComparedModels, {"others": list(others), **more}))]


def test_models_are_named_by_their_files_and_told_apart():
    assert names("a/net.onnx", "b/net.onnx", "nets.py:flat") == ["net.onnx", "net.onnx (2)", "nets.py:flat"]
    assert names("x.onnx", "x.onnx (2)", "x.onnx") == ["x.onnx", "x.onnx (2)", "x.onnx (3)"]


def test_a_name_with_odd_characters_is_made_inert():
    (odd, _) = names("a\x1b[31m\nb<script>.onnx", "b.onnx")
    assert "\x1b" not in odd
    assert "\n" not in odd


def test_every_combination_of_what_is_varied_is_a_model_the_first_values_first():
    found = names("nets.py:make", vary=["width=8,16", "pool=average,flatten"], arg=["depth=2"])
    assert found == [
        "width=8, pool=average", "width=8, pool=flatten", "width=16, pool=average", "width=16, pool=flatten",
    ]  # fmt: skip
    options = options_from(ScanOptions, {"model": "nets.py:make", "arg": ["depth=2"]})
    made = candidates_of(options, options_from(ComparedModels, {"vary": {"width": [8, 16]}}))
    assert [c.options.arg for c in made] == [(("depth", 2), ("width", 8)), (("depth", 2), ("width", 16))]
    assert [c.derived for c in made] == [False, True]


def test_every_change_is_a_model_beside_the_one_as_it_is():
    assert names("nets.py:net", change=["pooling=flatten", "activation=gelu,tanh", "stride=1", "dropout=0.5"]) == [
        "nets.py:net", "pooling=flatten", "activation=gelu", "activation=tanh", "stride=1", "dropout=0.5",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "others", "given", "says"),
    [
        ("a.onnx", (), {}, "nothing to compare"),
        ("a.py:f", (), {"vary": "width=8"}, "nothing to compare"),
        ("a.py:f", ("b.py:f",), {"vary": "width=8,9"}, "--vary and several models were given"),
        ("a.onnx", (), {"vary": "width=8,9"}, "--vary needs a model that is built with arguments"),
        ("a.py:f", (), {"vary": "width=8,9", "arg": "width=3"}, "--arg and --vary both give width"),
        ("a.py:f", (), {"vary": f"width={','.join(map(str, range(65)))}"}, "64 are the most"),
        ("a.py:f", (), {"change": "width=8"}, "--change width is no exact surgery"),
        ("a.py:f", (), {"change": "stride=1", "vary": "width=8,9"}, "--vary and --change were given"),
        ("a.py:f", ("b.py:f",), {"change": "stride=1"}, "--change and several models were given"),
        ("a.py:f", (), {"vary": "width"}, "--vary width is not name=values"),
        ("a.py:f", (), {"vary": "width=8,8"}, "--vary width has 8 twice"),
        ("a.py:f", (), {"vary": ["width=8,9", "width=1,2"]}, "--vary width is given twice"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_line(model, others, given, says):
    with pytest.raises(UsageError, match=says):
        names(model, *others, **given)
