"""Compression to few levels of a tensor's own, against plain formulas in numpy and published numbers."""

import numpy as np
import pytest
import torch

from auditor.attack import as_sent
from auditor.errors import UsageError
from auditor.federated import parse
from auditor.federated.codebooks import _CODES
from auditor.federated.defence import defend
from auditor.records import deviation_of

SPECS = ("sparse-ternary:0.1", "kmeans:6", "blockwise:dynamic8", "blockwise:float4", "blockwise:normal4")
DRAWS = np.random.default_rng(0)
UPDATE = {
    "wide": torch.from_numpy(DRAWS.standard_normal((70, 91)) * np.exp(DRAWS.standard_normal((70, 91)))).float(),
    "few": torch.tensor([0.3, -0.2, 0.0]),
    "zero": torch.zeros(5, 5),
    "none": torch.zeros(0),
}


def sent(spec: str) -> dict[str, torch.Tensor]:
    return dict(defend([parse(spec)], UPDATE, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("spec", SPECS)
def test_what_is_sent_is_of_the_same_shape_and_the_attacker_gets_it_again(spec):
    made = sent(spec)
    assert str(parse(spec)) == spec
    assert {n: g.shape for n, g in made.items()} == {n: g.shape for n, g in UPDATE.items()}
    again = as_sent([parse(spec)], {n: g.clone().requires_grad_(True) for n, g in UPDATE.items()}, made)
    for name, g in made.items():
        # Straight through adds and takes away what was there: its rounding stays.
        torch.testing.assert_close(again[name].detach(), g, rtol=1e-5, atol=1e-5)
    again["wide"].sum().backward()  # differentiable, straight through
    assert all(np.isfinite(v) for v in deviation_of([parse(spec)], made).values())


def test_ternary_sends_signs_of_the_largest_at_the_mean_over_all_entries():
    g, made = UPDATE["wide"].numpy(), sent("sparse-ternary:0.1")["wide"].numpy()
    kept = np.argsort(np.abs(g).ravel())[-int(np.ceil(0.1 * g.size)) :]
    expected = np.zeros(g.size, dtype=np.float32)
    expected[kept] = np.sign(g.ravel()[kept]) * np.abs(g.ravel()[kept]).sum() / g.size
    np.testing.assert_allclose(made.ravel(), expected, rtol=1e-5)


def test_clusters_are_at_the_means_of_what_is_nearest_to_them():
    g, made = UPDATE["wide"].double().numpy(), sent("kmeans:6")["wide"].double().numpy()
    levels = np.unique(made)
    assert len(levels) == 6
    nearest = levels[np.abs(g.ravel()[:, None] - levels).argmin(1)]
    np.testing.assert_allclose(made.ravel(), nearest)
    for level in levels:
        assert g[made == level].mean() == pytest.approx(level, rel=1e-4, abs=1e-6)
    # No worse than six equal shares of the entries, where it began.
    shares = np.array_split(np.sort(g.ravel()), 6)
    assert ((g - made) ** 2).sum() < sum(((s - s.mean()) ** 2).sum() for s in shares)
    torch.testing.assert_close(sent("kmeans:6")["few"], UPDATE["few"])


def test_codes_are_those_that_were_published():
    # Dettmers et al. 2023, appendix E.
    normal4 = [-1.0, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0.0,
               0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0]  # fmt: skip
    np.testing.assert_allclose(_CODES["normal4"].numpy(), normal4, atol=2e-6)
    assert sorted({abs(v) for v in _CODES["float4"].tolist()}) == pytest.approx(
        [0.0, 0.0052083333, 0.16666667, 0.25, 0.33333333, 0.5, 0.66666667, 1.0]
    )
    dynamic = _CODES["dynamic8"]
    assert (len(dynamic), float(dynamic.max())) == (256, 1.0)
    assert float(dynamic[dynamic > 0.0].min()) == pytest.approx(0.55e-6)


@pytest.mark.parametrize(("spec", "block"), [("dynamic8", 4096), ("float4", 64), ("normal4", 64)])
def test_blocks_are_rounded_to_the_nearest_value_of_their_code(spec, block):
    g, made = UPDATE["wide"].numpy().ravel(), sent(f"blockwise:{spec}")["wide"].numpy().ravel()
    code = _CODES[spec].float().numpy()
    for start in range(0, g.size, block):
        part = g[start : start + block]
        largest = np.abs(part).max()
        expected = code[np.abs(part[:, None] / largest - code).argmin(1)] * largest
        np.testing.assert_allclose(made[start : start + block], expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("spec", ["kmeans:6", "blockwise:dynamic8", "blockwise:float4", "blockwise:normal4"])
def test_the_error_that_is_told_is_of_the_size_of_the_one_that_is_made(spec):
    made = sent(spec)
    off = float((made["wide"] - UPDATE["wide"]).square().mean().sqrt())
    assert 0.5 < deviation_of([parse(spec)], made)["wide"] / off < 2.5


@pytest.mark.parametrize(
    "spec", ["kmeans:1", "kmeans:1000", "kmeans:", "sparse-ternary:0", "sparse-ternary:2", "blockwise:", "blockwise:8"]
)
def test_what_cannot_be_read_is_refused(spec):
    with pytest.raises(UsageError, match="cannot be read"):
        parse(spec)
