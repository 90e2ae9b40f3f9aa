"""How a scan divides its time."""

import pytest

from auditor.attack import PRESETS
from auditor.pipeline.identity import SECONDS_TO_RECOGNISE
from auditor.pipeline.time_plan import TimePlan


def plan(preset="standard", what_if=None, malicious=None, faces=False, layers=None):
    return TimePlan.of(PRESETS[preset], what_if=what_if, malicious=malicious, faces=faces, layers=layers)


@pytest.mark.parametrize(
    ("preset", "what_if", "malicious", "layers", "expected"),
    [
        # diagnosis, what-if, single layers, malicious server, and what is left for attacks
        ("fast", None, None, None, (0.0, 0.0, 0.0, 0.0, 0.9)),
        ("fast", True, None, None, (0.0, 0.3, 0.0, 0.0, 0.6)),
        ("fast", None, True, None, (0.0, 0.0, 0.0, 0.1, 0.8)),
        ("fast", None, None, 3, (0.0, 0.0, 0.2, 0.0, 0.7)),
        ("standard", None, None, None, (0.05, 0.25, 0.05, 0.1, 0.45)),
        ("standard", None, None, 0, (0.05, 0.3, 0.0, 0.1, 0.45)),
        ("standard", False, None, None, (0.05, 0.0, 0.0, 0.0, 0.85)),
        ("deep", None, False, None, (0.05, 0.25, 0.05, 0.0, 0.55)),
    ],
)
def test_what_runs_gets_its_share_and_the_attacks_the_rest(preset, what_if, malicious, layers, expected):
    times = plan(preset, what_if, malicious, layers=layers)
    got = (times.diagnosis, times.what_if, times.layers, times.malicious, times.attacks)
    assert got == pytest.approx(expected)


@pytest.mark.parametrize("faces", [False, True])
def test_parts_that_use_their_whole_share_use_the_whole_time(faces):
    times, left = plan(faces=faces), 1000.0
    recognise = times.seconds_to_recognise(left)
    assert recognise == (SECONDS_TO_RECOGNISE if faces else 0.0)
    attacks = times.seconds_to_attack(left)
    assert attacks == pytest.approx(450.0 - recognise)
    left -= attacks
    diagnosis = times.seconds_to_diagnose(left)
    left -= diagnosis
    enhancement = times.seconds_to_enhance(left, recognise)
    left -= enhancement + recognise
    what_if = times.seconds_for_what_if(left)
    left -= what_if
    single = times.seconds_for_layers(left, 1000.0)
    assert (what_if / single, what_if / (left - single)) == pytest.approx((5.0, 2.5))
    assert enhancement / what_if == pytest.approx(0.4)
    if not faces:
        assert (diagnosis, enhancement, what_if, single) == pytest.approx((50.0, 100.0, 250.0, 50.0))


def test_faces_take_at_most_a_fifth_of_a_short_time():
    assert plan(faces=True).seconds_to_recognise(1.0) == pytest.approx(min(SECONDS_TO_RECOGNISE, 0.2))


def test_a_time_that_is_up_leaves_nothing_to_enhance():
    assert plan().seconds_to_enhance(-3.0, 0.0) == 0.0


def test_a_plan_is_told_in_one_line():
    assert str(plan("fast")) == "exposure 15%, membership 5%; of the rest: attacks 90%, enhancement 10%"
    assert "malicious server 10%" in str(plan())


def test_layers_take_one_and_a_half_times_their_share_at_most():
    times = plan(faces=False)
    assert times.seconds_for_layers(30.0, 1000.0) == pytest.approx(10.0)
    assert times.seconds_for_layers(900.0, 1000.0) == pytest.approx(1.5 * times.layers * 1000.0)
