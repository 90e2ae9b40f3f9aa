"""Layers are matched through renames, insertions and removals: the right answer is known of every case."""

import random

import pytest

from auditor.gate.layers import matched


def layer(name, kind="conv3d", elements=100, inputs=(1, 3, 8, 8), outputs=(1, 8, 8, 8)):
    return {"name": name, "kind": kind, "elements": elements, "input_shape": inputs, "output_shape": outputs}


NET = [
    layer("stem.conv", elements=656, inputs=(1, 3, 8, 16, 16), outputs=(1, 8, 8, 16, 16)),
    layer("stem.norm", "norm", 16, (1, 8, 8, 16, 16), (1, 8, 8, 16, 16)),
    layer("block1.conv", elements=3472, inputs=(1, 8, 8, 16, 16), outputs=(1, 16, 4, 8, 8)),
    layer("block1.norm", "norm", 32, (1, 16, 4, 8, 8), (1, 16, 4, 8, 8)),
    layer("block2.conv", elements=6928, inputs=(1, 16, 4, 8, 8), outputs=(1, 16, 4, 8, 8)),
    layer("head", "linear", 170, (1, 16), (1, 10)),
]
SAME = {one["name"]: one["name"] for one in NET}


def test_the_same_net_matches_itself():
    assert matched(NET, NET) == SAME


@pytest.mark.parametrize("rename", [lambda n: f"module.{n}", lambda n: n.replace("block", "stage"), lambda n: n[::-1]])
def test_renamed_layers_are_still_themselves(rename):
    new = [{**one, "name": rename(one["name"])} for one in NET]
    assert matched(NET, new) == {rename(name): name for name in SAME}


def test_an_insertion_in_a_sequential_gives_no_layer_the_name_of_another():
    old = [layer("0", elements=656), layer("2", elements=3472), layer("4", elements=6928), layer("6", "linear", 170)]
    inserted = layer("2", elements=99)
    new = [old[0], inserted, {**old[1], "name": "4"}, {**old[2], "name": "6"}, {**old[3], "name": "8"}]
    assert matched(old, new) == {"0": "0", "4": "2", "6": "4", "8": "6"}


def test_a_removed_layer_matches_nothing():
    assert matched(NET, [one for one in NET if one["name"] != "block1.conv"]) == {
        name: name for name in SAME if name != "block1.conv"
    }


def test_a_head_that_grew_is_the_head():
    flat = [*NET[:-1], layer("head", "linear", 40970, (1, 4096), (1, 10))]
    assert matched(NET, flat) == SAME


def test_twins_are_told_apart_by_their_order():
    old = [layer("encoder.0.fc", "linear", 500), layer("encoder.1.fc", "linear", 500), layer("head", "linear", 20)]
    new = [{**one, "name": f"net.{one['name']}"} for one in old]
    assert matched(old, new) == {"net.encoder.0.fc": "encoder.0.fc", "net.encoder.1.fc": "encoder.1.fc",
                                 "net.head": "head"}  # fmt: skip


def test_random_insertions_and_removals_keep_what_is_left_in_place():
    draw = random.Random(0)
    for _ in range(50):
        old = [
            layer(f"layer{k}", draw.choice(("conv3d", "linear", "norm")), draw.randrange(10, 10**6)) for k in range(30)
        ]
        kept = [one for one in old if draw.random() > 0.2]
        new = [{**one, "name": f"net.{one['name']}"} for one in kept]
        for k in range(5):
            new.insert(draw.randrange(len(new) + 1), layer(f"added{k}", "conv3d", 7))
        found = matched(old, new)
        right = sum(found.get(f"net.{one['name']}") == one["name"] for one in kept)
        assert right == len(kept)


def test_very_deep_nets_are_matched_by_name_and_kind():
    old = [layer(f"l{k}") for k in range(1000)]
    new = [*old[:500], layer("l500", "norm"), *old[501:]]
    assert matched(old, new) == {f"l{k}": f"l{k}" for k in range(1000) if k != 500}
