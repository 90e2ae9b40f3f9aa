"""Families of defences: from strengths to what a user writes."""

import pytest
import torch

from auditor.errors import UsageError
from auditor.federated import FAMILIES, BareSize, ClientTraining, defend, families, parse_all

SIZE = BareSize(norm=2.0, entries=10_000)


def ends(family):
    return family.ladder or (family.least, family.start, family.most)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_every_strength_of_every_family_can_be_read(family):
    for strength in ends(family):
        assert parse_all(family.specs(strength, SIZE))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_a_larger_strength_leaves_less_of_an_update(family):
    if family.name == "secure-aggregation":
        return
    draws = torch.Generator().manual_seed(0)
    update = {"w": torch.randn(100, 100, generator=draws) * SIZE.root_mean_square}
    off = []
    for strength in family.ladder or (family.start, 4.0 * family.start, 16.0 * family.start):
        sent = defend(parse_all(family.specs(strength, SIZE)), update, torch.Generator().manual_seed(1))
        off.append(float((sent["w"] - update["w"]).norm()))
    assert off == sorted(off)


def test_a_sum_has_no_more_clips_than_attacks_are_planned_for():
    (family,) = families(("secure-aggregation",), ClientTraining(clips=8))
    assert family.ladder == (2.0, 4.0, 8.0)
    assert "secure-aggregation" not in {f.name for f in families((), ClientTraining(clips=64))}
    with pytest.raises(UsageError, match="too many clips"):
        families(("secure-aggregation",), ClientTraining(clips=64))


def test_noise_is_told_by_the_updates_own_size():
    """Of strength 1 the noise is as large as the update, whatever its distribution."""
    for name in ("gaussian", "laplace"):
        (family,) = families((name,), ClientTraining())
        (spec,) = family.specs(1.0, SIZE)
        zero = {"w": torch.zeros(100, 100)}
        noise = defend(parse_all((spec,)), zero, torch.Generator().manual_seed(0))["w"]
        assert float(noise.norm()) == pytest.approx(SIZE.norm, rel=0.03)


def test_what_is_named_is_searched_and_a_whole_setting_is_judged_as_it_stands():
    assert families((), ClientTraining()) == FAMILIES
    assert [f.name for f in families(("top-k", "sign"), ClientTraining())] == ["top-k", "sign"]
    (both,) = families(("clip:1+gaussian:0.5",), ClientTraining())
    assert both.specs(1.0, SIZE) == ("clip:1", "gaussian:0.5")
    assert both.ladder == (1.0,)
    (preset,) = families(("nvflare-percentile-privacy",), ClientTraining())
    assert preset.specs(1.0, SIZE) == ("nvflare-percentile-privacy",)
    (regular,) = families(("exclude-regex:a+b",), ClientTraining())
    assert regular.specs(1.0, SIZE) == ("exclude-regex:a+b",)
    (joined,) = families(("clip:1+exclude:5.*+sign",), ClientTraining())
    assert joined.specs(1.0, SIZE) == ("clip:1", "exclude:5.*", "sign")
    (last,) = families(("clip:1+exclude-regex:a+b",), ClientTraining())
    assert last.specs(1.0, SIZE) == ("clip:1", "exclude-regex:a+b")


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (("gausian",), "did you mean gaussian"),
        (("gaussian:0",), "cannot be read"),
        (("gaussian:-1",), "cannot be read"),
        (("gaussian:nan",), "cannot be read"),
        (("gaussian:inf",), "cannot be read"),
        (("top-k:2",), "cannot be read"),
        (("gaussian", "gaussian"), "given twice"),
        (("",), "is unknown"),
        (("clip:1+nothing",), "is unknown"),
        (("opacus-dp-sgd",), "has no default"),
        (("secure-aggregation:2+secure-aggregation:2",), "more than once"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_line(wanted, says):
    with pytest.raises(UsageError, match=says) as refused:
        families(wanted, ClientTraining())
    assert "\n" not in str(refused.value)
