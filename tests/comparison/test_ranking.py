"""Intervals, order, ties and recommendations, against values that are worked out by hand or by SciPy."""

import math
from dataclasses import replace

import pytest
from comparison.fabricated import CLIPS, audit
from scipy import stats

from auditor.comparison.candidates import Candidate
from auditor.comparison.measured import Measured
from auditor.comparison.ranking import clearly_more, interval
from auditor.comparison.written import gate_of, ordered_blocks, recommendations, remarks, summary
from auditor.option_rules import options_from
from auditor.options import ScanOptions
from auditor.results.comparison import ClipLeakage


def leakage(values: dict[int, tuple[float, ...]]) -> list[ClipLeakage]:
    return [
        ClipLeakage(clip=clip, seed=seed, attack="a", psnr=v, leakage=v)
        for seed, held in values.items()
        for clip, v in zip(CLIPS, held, strict=True)
    ]


def measured(name: str, *audits: dict, source: str = "", note: str = "") -> Measured:
    options = options_from(ScanOptions, {"model": source or f"{name}.py:net"})
    return Measured(candidate=Candidate(name=name, options=options), audits=dict(enumerate(audits)), skipped=note)


def test_the_interval_over_clips_is_students():
    found = interval(leakage({0: (4.0, 7.0, 10.0)}))
    low, high = stats.t.interval(0.95, 2, loc=7.0, scale=3.0 / math.sqrt(3))
    assert (found.mean, found.low, found.high) == pytest.approx((7.0, low, high))
    assert (found.scenes, found.seeds, found.runs) == (3, 1, 3)


def test_seeds_that_differ_widen_the_interval_and_two_seeds_cannot():
    three = {0: (4.0, 7.0, 10.0), 1: (14.0, 17.0, 20.0), 2: (24.0, 27.0, 30.0)}
    over_clips = stats.t.interval(0.95, 2, scale=3.0 / math.sqrt(3))[1]
    over_seeds = stats.t.interval(0.95, 2, scale=10.0 / math.sqrt(3))[1]
    found = interval(leakage(three))
    assert found.high - found.mean == pytest.approx(math.hypot(over_clips, over_seeds))
    two = interval(leakage({k: three[k] for k in (0, 1)}))
    assert two.high - two.mean == pytest.approx(over_clips)


def test_differences_are_paired_by_clip_and_seed():
    a, b = leakage({0: (4.0, 17.0, 30.0), 5: (9.0, 9.0, 9.0)}), leakage({0: (1.0, 15.0, 26.0)})
    found = interval(a, b)
    assert found.mean == pytest.approx(3.0)
    assert found.runs == 3
    assert found.high - found.low == pytest.approx(2 * stats.t.interval(0.95, 2, scale=1.0 / math.sqrt(3))[1])


def test_too_few_clips_and_seeds_give_no_interval_and_so_a_tie():
    few = [c for c in leakage({0: (50.0, 50.0, 50.0)}) if c.clip != CLIPS[0]]
    found = interval(few)
    assert (found.mean, found.low) == (50.0, None)
    assert not clearly_more(found, interval(leakage({0: (0.0, 0.0, 0.0)})))
    assert interval([]) is None


def test_what_leaks_less_beyond_the_intervals_is_recommended_with_its_effect():
    found = [
        measured("flat", audit({"closed": (39.0, 41.0, 43.0)})),
        measured("pooled", audit({"search": (3.0, 4.0, 5.0)}, word="INCONCLUSIVE")),
        measured("narrow", audit({"search": (2.0, 4.0, 9.0)}, word="WARN")),
    ]
    blocks = ordered_blocks(found)
    assert [(b.name, b.first_rank, b.last_rank, b.ties) for b in blocks] == [
        ("flat", 1, 1, ()),
        ("narrow", 2, 3, ("pooled",)),
        ("pooled", 2, 3, ("narrow",)),
    ]
    advice = recommendations(blocks)
    assert [r.take for r in advice] == ["pooled", "narrow"]
    assert advice[0].effect.mean == pytest.approx(-37.0)
    assert "falls from 41.0 dB (36.0 to 46.0) to 4.0 dB (1.5 to 6.5), by 37.0 dB" in advice[0].text
    assert "Its verdict by itself is INCONCLUSIVE." in advice[0].text
    assert summary(blocks, advice).startswith("By leakage, most first: flat > narrow ~ pooled. pooled leaks clearly")
    assert gate_of(blocks, "high").exit_code == 1


def test_no_model_that_was_attacked_less_is_recommended():
    weaker = measured("pooled", audit({"search": (3.0, 4.0, 5.0)}, skipped=[("recursion", "out-of-budget")]))
    blocks = ordered_blocks([measured("flat", audit({"closed": (39.0, 41.0, 43.0)})), weaker])
    assert recommendations(blocks) == ()
    assert "attacked less" in summary(blocks, ())
    assert "recursion did not run" in blocks[1].not_compared


def test_overlapping_intervals_are_a_tie_and_nothing_follows():
    found = [measured("a", audit({"s": (5.0, 9.0, 13.0)})), measured("b", audit({"s": (3.0, 6.0, 9.0)}))]
    blocks = ordered_blocks(found)
    assert recommendations(blocks) == ()
    assert [b.ties for b in blocks] == [("b",), ("a",)]
    assert "a ~ b" in summary(blocks, ())
    assert "no model leaks clearly less" in summary(blocks, ())


def test_the_gate_is_that_of_the_worst_audit():
    def code(*words: str) -> int:
        found = [measured(f"m{i}", audit({"s": (1.0, 1.0, 1.0)}, word=w)) for i, w in enumerate(words)]
        return gate_of(ordered_blocks(found), "high").exit_code

    assert [code("PASS", "WARN"), code("PASS", "INCONCLUSIVE"), code("INCONCLUSIVE", "FAIL")] == [0, 4, 1]
    both = [measured("a", audit({"s": (1.0,) * 3}, word="PASS")), measured("b", note="it cannot be built")]
    blocks = ordered_blocks(both)
    assert gate_of(blocks, "high").exit_code == 4
    assert (blocks[-1].skipped, blocks[-1].first_rank) == ("it cannot be built", None)


def test_the_same_source_twice_is_told_as_a_null():
    one = measured("net.onnx", audit({"s": (1.0, 2.0, 3.0)}), source="net.onnx")
    other = replace(one, candidate=replace(one.candidate, name="net.onnx (2)"))
    blocks = ordered_blocks([one, other])
    assert [b.ties for b in blocks] == [("net.onnx (2)",), ("net.onnx",)]
    assert blocks[1].difference.mean == 0.0
    assert any("same source given twice" in note for note in remarks([one, other], blocks, 1))
