"""EDEN: rotation, levels and scale by independent formulas, and what an attacker is told of its error."""

import numpy as np
import pytest
import torch
from scipy.linalg import hadamard as sylvester

from auditor.errors import UsageError
from auditor.federated.defence import parse, parse_all
from auditor.federated.rotated_quantisation import _levels, _parts, hadamard

UPDATE = {
    "weight": torch.randn(30, 11, generator=torch.Generator().manual_seed(0)) ** 3,
    "bias": torch.randn(30, generator=torch.Generator().manual_seed(1)),
}


def sent(spec: str, seed: int = 0, update=UPDATE):
    return parse(spec).apply(update, torch.Generator().manual_seed(seed))


def test_the_rotation_is_sylvesters_and_its_own_inverse():
    x = torch.randn(64, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert np.allclose(hadamard(x).numpy(), sylvester(64) @ x.numpy() / 8.0, atol=1e-12)
    assert torch.allclose(hadamard(hadamard(x)), x, atol=1e-12)


@pytest.mark.parametrize(("bits", "upper", "distortion"), [
    (1, [0.7980], 0.3634), (2, [0.4528, 1.510], 0.1175), (3, [0.2451, 0.7560, 1.344, 2.152], 0.03454),
    (4, [0.1284, 0.3881, 0.6568, 0.9424, 1.256, 1.618, 2.069, 2.733], 0.009497),
])  # fmt: skip
def test_levels_are_those_of_max_1960(bits, upper, distortion):
    """Max, Quantizing for minimum distortion, 1960, table I, printed to four digits."""
    found = _levels(bits)
    assert np.allclose(found.centroids[2 ** (bits - 1) :], upper, rtol=4e-4)
    assert 1.0 - found.energy == pytest.approx(distortion, rel=1e-3)


@pytest.mark.parametrize("bits", range(1, 9))
def test_every_level_is_the_mean_of_its_cell(bits):
    c = _levels(bits).centroids
    assert np.all(np.diff(c) > 0)
    assert np.allclose(c, -c[::-1], atol=1e-7)
    z = np.linspace(-8.0, 8.0, 2_000_001)
    cell, weight = np.digitize(z, (c[1:] + c[:-1]) / 2.0), np.exp(-(z**2) / 2.0)
    means = np.bincount(cell, weight * z) / np.bincount(cell, weight)
    assert np.allclose(c, means, atol=2e-4)


def test_it_is_right_on_average_and_off_by_what_the_attacker_is_told():
    for bits in (1, 3):
        draws = np.stack([sent(f"eden:{bits},100", seed)["weight"].double().numpy() for seed in range(400)])
        off = draws - UPDATE["weight"].double().numpy()
        deviation = float(np.sqrt((off**2).mean()))
        # Entries of small parts are off by more than others.
        assert (np.abs(off.mean(0)) < 6.0 * off.std(0) / 400**0.5).all()
        told = parse(f"eden:{bits},100").deviation({"weight": torch.from_numpy(draws[0])})["weight"]
        assert told == pytest.approx(deviation, rel=0.1)


def test_few_entries_zeros_and_repeats():
    made = sent("eden:8,100")
    assert torch.equal(made["bias"], UPDATE["bias"])
    assert parse("eden:8,100").deviation(UPDATE)["bias"] == 0.0
    assert not torch.equal(made["weight"], UPDATE["weight"])
    assert torch.equal(sent("eden:8,0", update={"w": torch.zeros(5)})["w"], torch.zeros(5))
    assert torch.equal(sent("eden:2,100")["weight"], sent("eden:2,100")["weight"])
    assert str(parse_all(["openfl-eden"])[0]) == "eden:8,100"


@pytest.mark.parametrize("spec", ["eden", "eden:8", "eden:0,100", "eden:9,100", "eden:4,-1", "eden:a,b"])
def test_what_is_no_eden_is_refused_in_one_line(spec):
    with pytest.raises(UsageError, match="cannot be read") as caught:
        parse(spec)
    assert "eden:BITS,SIZE" in str(caught.value.remedy)


@pytest.mark.parametrize(
    ("entries", "parts"),
    [(13130, [8192, 4096, 842]), (4096, [4096]), (4000, [4000]), (101, [64, 32, 5]), (6000, [4096, 1904]), (3, [2, 1])],
)
def test_more_padding_than_a_tenth_is_not_made(entries, parts):
    assert _parts(entries) == parts
    assert sum(parts) == entries
