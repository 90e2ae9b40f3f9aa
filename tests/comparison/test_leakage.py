"""What an audit demonstrated of each clip, and whether it tried as hard as others."""

import math

import pytest
from comparison.fabricated import audit

from auditor.comparison.leakage import SAME_PIXELS_DB, attacks_of, determined_of, leakage_of, less_effort


def test_the_strongest_attack_that_counts_stands_for_a_clip():
    found = leakage_of(audit({"weak": (1.0, 9.0, 2.0), "strong": (5.0, 4.0, 3.0)}), seed=3)
    assert [(c.clip, c.attack, c.leakage, c.psnr, c.seed) for c in found] == [
        ("park_walker", "strong", 5.0, 20.0, 3),
        ("treadmill_two", "weak", 9.0, 24.0, 3),
        ("hand_cup", "strong", 3.0, 18.0, 3),
    ]


def test_what_beats_no_blind_guess_and_what_does_not_count_is_worth_the_guess():
    assert [c.leakage for c in leakage_of(audit({"weak": (-4.0, -1.0, 0.0)}), 0)] == [0.0, 0.0, 0.0]
    null_failed = leakage_of(audit({"strong": (50.0, 50.0, 50.0)}, counts=False), 0)
    assert [(c.attack, c.leakage) for c in null_failed] == [(None, 0.0)] * 3


def test_exact_clips_differ_in_nothing_beyond_the_rounding_of_pixels():
    # Rounding to n/255 is uniform in +-1/510: mean square 1/12/255^2.
    assert math.isclose(SAME_PIXELS_DB, -10 * math.log10((1 / 255) ** 2 / 12))
    found = leakage_of(audit({"closed": (75.0, 60.0, math.inf)}, blind=15.0), 0)
    assert [c.leakage for c in found] == pytest.approx([SAME_PIXELS_DB - 15.0] * 3)


def test_an_audit_that_was_cut_or_left_attacks_out_counts_as_less_effort():
    whole = audit({"search": (1.0, 1.0, 1.0)}, skipped=[("linear-input", "not-applicable")])
    assert less_effort([whole]) == ""
    assert "recursion did not run" in less_effort([whole, audit({}, skipped=[("recursion", "out-of-budget")])])
    assert less_effort([audit({"search": (1.0,) * 3}, skipped=[("search", "out-of-budget")])]) == ""
    assert "no attack" in less_effort([audit({})])
    assert "machine" in less_effort([{**whole, "machine_cuts": [{"what": "search", "limit": "time"}]}])
    failed = {**whole, "controls": [{"passed": False, "kind": "positive", "name": "planted"}]}
    assert "control failed" in less_effort([failed])


def test_attacks_and_determined_layers_are_counted():
    rows = attacks_of([audit({"a": (1.0, 2.0, 3.0)}), audit({"a": (4.0, 5.0, 6.0), "b": (9.0, 9.0, 9.0)})])
    assert [(r.attack, r.gain, r.best, r.runs) for r in rows] == [("b", 9.0, 24.0, 3), ("a", 3.5, 21.0, 6)]
    counted = determined_of(audit({}))
    assert counted is not None
    assert (counted.layers, counted.of, counted.share) == (1, 2, 0.5)
