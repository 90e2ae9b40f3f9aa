"""New, worse, same, better, fixed: beyond the spread of repeats, whatever the numbers and the order."""

import copy
import itertools

import pytest
from audits import audit, changed, checked

from auditor.errors import UsageError
from auditor.gate.judge import judge, judgement_of
from auditor.gate.policy import Policy

ONLY_CHANGES = Policy(fail_on="never", fail_on_regression=True, inconclusive="new")


def compared(old, new):
    return judge(new, ONLY_CHANGES, old)


def states(judgement):
    return {(a["rule"], a["subject"]): a["state"] for a in judgement["alerts"]}


def shifted(results, decibels, attack=None):
    """Reconstructions that are so much closer; grades as they were."""
    made = copy.deepcopy(results)
    for finding in made["findings"]:
        if attack in (None, finding["attack"]):
            for result in finding["results"]:
                result["score"]["psnr"] += decibels
    return made


@pytest.mark.parametrize("name", ["fixed_positions", "learned_positions", "pooled", "flat"])
def test_an_audit_against_itself_changes_nothing(name):
    found = compared(audit(name), audit(name))
    assert found["exit_code"] == 0
    assert set(states(found).values()) <= {"same"}
    assert found["warnings"] == []


@pytest.mark.parametrize(
    ("old", "new", "subject"),
    [("fixed_positions", "learned_positions", "closed-form"), ("pooled", "flat", "recursion")],
)
def test_a_change_that_opens_the_update_is_a_regression_and_its_reverse_is_fixed(old, new, subject):
    found = compared(audit(old), audit(new))
    assert found["exit_code"] == 1
    assert states(found)["clip-reconstruction", subject] == "new"
    assert states(found)["update-exposure", "update"] == "worse"
    back = compared(audit(new), audit(old))
    assert states(back)["clip-reconstruction", subject] == "fixed"
    assert states(back)["update-exposure", "update"] == "better"
    assert not {"new", "worse"} & set(states(back).values()) - {states(back).get(("inconclusive", "audit"))}


def test_order_and_numbers_are_no_part_of_a_fingerprint():
    one, other = audit("flat"), shifted(audit("flat"), 0.4)
    other["findings"] = other["findings"][::-1]
    other["layers"] = [{**layer, "index": layer["index"] + 1} for layer in other["layers"]]
    prints = [{a["fingerprint"] for a in judge(r, Policy())["alerts"]} for r in (one, other)]
    assert prints[0] == prints[1]
    assert len(prints[0]) == len(judge(one, Policy())["alerts"])
    assert set(states(compared(one, other)).values()) == {"same"}


@pytest.mark.parametrize(("decibels", "state"), [(1.9, "same"), (2.2, "worse"), (-1.9, "same"), (-2.2, "better")])
def test_worse_is_beyond_the_spread_of_seeds(decibels, state):
    old = audit("flat")
    found = compared(old, shifted(old, decibels, "layer-recursion"))
    assert states(found)["clip-reconstruction", "recursion"] == state


def test_the_spread_is_what_repetitions_show_where_there_are_some():
    old = audit("flat")
    for finding in old["findings"]:
        finding["results"] += [
            {**r, "repetition": 1, "score": {**r["score"], "psnr": r["score"]["psnr"] - 4.0}}
            for r in finding["results"]
        ]
    new = shifted(old, 3.0, "layer-recursion")
    found = compared(old, new)
    assert states(found)["clip-reconstruction", "recursion"] == "same"
    # Pairs that are 4 dB apart deviate by 4 / sqrt(2); a difference of two such runs by 4, and 1.96 times that is 7.8.
    assert found["spread"].startswith("7.8 dB")
    assert states(compared(old, shifted(old, 8.5, "layer-recursion")))["clip-reconstruction", "recursion"] == "worse"


def test_exact_is_exact_however_many_decibels():
    old = shifted(audit("learned_positions"), 20.0)
    for finding in old["findings"]:
        for result in finding["results"]:
            result["score"]["psnr"] = max(result["score"]["psnr"], 40.0)
    found = compared(old, shifted(old, 30.0))
    assert states(found)["clip-reconstruction", "closed-form"] == "same"


def test_a_grade_that_changes_on_the_same_pictures_is_no_change():
    old = audit("flat")
    new = copy.deepcopy(old)
    for finding in new["findings"]:
        if finding["family"] == "recursion":
            finding["grade"] = "NOT_SHOWN"
            for result in finding["results"]:
                result["grade"] = "NOT_SHOWN"
    for a, b in ((old, new), (new, old)):
        found = compared(a, b)
        assert states(found)["clip-reconstruction", "recursion"] == "same"
        assert found["exit_code"] == 0


def test_another_attack_of_the_family_finds_the_same_leak():
    old = audit("flat")
    new = changed(old)
    for finding in new["findings"]:
        finding["attack"] = f"other-{finding['attack']}"
    assert set(states(compared(old, new)).values()) == {"same"}


def test_results_without_families_are_compared_by_attack_and_said_so():
    old, new = audit("fixed_positions"), audit("learned_positions")
    for finding in old["findings"]:
        del finding["family"]
    found = compared(checked(old), new)
    assert states(found)["clip-reconstruction", "patch-embedding"] == "new"
    assert any("no families" in text for text in found["warnings"])


@pytest.mark.parametrize("because", ["out-of-budget", "out-of-memory", "failed", "unsupported"])
def test_an_attack_that_did_not_run_this_time_is_not_fixed(because):
    old = audit("flat")
    new = copy.deepcopy(old)
    lost = [f for f in new["findings"] if f["family"] == "recursion"]
    new["findings"] = [f for f in new["findings"] if f["family"] != "recursion"]
    assert states(compared(old, new))["clip-reconstruction", "recursion"] == "fixed"
    new["skipped"] += [
        {"stage": "invert", "what": f["attack"], "because": because, "reason": "no time", "remedy": ""} for f in lost
    ]
    found = compared(old, new)
    assert states(found)["clip-reconstruction", "recursion"] == "same"
    (alert,) = (a for a in found["alerts"] if a["subject"] == "recursion")
    assert "did not run this time" in alert["reason"]


def test_an_attack_that_knows_no_defence_is_not_fixed_by_it():
    old = audit("flat")
    new = copy.deepcopy(old)
    lost = [f["attack"] for f in new["findings"] if f["family"] == "recursion"]
    new["findings"] = [f for f in new["findings"] if f["family"] != "recursion"]
    noise = {"name": "gaussian:0.1", "told": "noise is added", "acts": "client", "unknown_to": lost}
    new["protocol"]["defences"] = [noise]
    assert states(compared(old, new))["clip-reconstruction", "recursion"] == "same"
    new["protocol"]["defences"] = [{**noise, "unknown_to": []}]
    assert states(compared(old, new))["clip-reconstruction", "recursion"] == "fixed"


def test_a_null_control_that_fails_fixes_nothing():
    old = audit("flat")
    new = copy.deepcopy(old)
    for finding in new["findings"]:
        finding["counts"], finding["null_at_chance"] = False, False
    assert states(compared(old, new))["clip-reconstruction", "recursion"] == "same"


def test_exposure_counts_from_three_decibels_and_by_layer():
    old = audit("pooled")
    name = old["layers"][1]["name"]
    for change, state in ((2.9, None), (3.1, "worse"), (-3.1, "better")):
        new = changed(old, ("layers.1.exposure.psnr", old["layers"][1]["exposure"]["psnr"] + change))
        assert states(compared(old, new)).get(("layer-exposure", name)) == state


def between(audit_of, low: float, high: float | None):
    made = copy.deepcopy(audit_of)
    for layer in made["layers"]:
        if layer["exposure"] is not None:
            layer["exposure"] |= {"psnr": low} if high is None else {"psnr": low, "at_most": high}
    return made


@pytest.mark.parametrize(
    ("low", "high", "state"),
    [(24.0, 35.0, "worse"), (24.0, 30.0, None), (16.0, 29.0, "better"), (16.0, 31.0, None), (22.9, 40.0, None)],
)
def test_work_moves_both_sides_of_exposure_towards_each_other_and_leaks_move_them_together(low, high, state):
    old = between(audit("pooled"), 20.0, 30.0)
    name = old["layers"][1]["name"]
    assert states(compared(old, between(old, low, high))).get(("layer-exposure", name)) == state


def test_exposure_in_leading_modes_does_not_compare_with_that_in_all():
    old = audit("pooled")
    new = copy.deepcopy(old)
    new["exposure"]["all"] |= {"psnr": old["exposure"]["all"]["psnr"] + 9.0, "at_most": 60.0}
    assert states(compared(old, new))["update-exposure", "update"] == "same"
    gone = copy.deepcopy(old)
    for layer in gone["layers"]:
        layer["exposure"] = None
    assert not [k for k, state in states(compared(old, gone)).items() if k[0] == "layer-exposure" and state != "same"]


def test_a_layer_that_was_put_in_is_no_regression_while_the_whole_exposes_as_much():
    old = audit("fixed_positions")
    new = copy.deepcopy(old)
    inserted = {**copy.deepcopy(old["layers"][-2]), "name": "extra"}
    new["layers"].insert(2, inserted)
    found = compared(old, new)
    assert states(found)["layer-exposure", "extra"] == "new"
    assert found["exit_code"] == 0


def test_a_renamed_layer_keeps_its_fingerprint_through_a_chain_of_baselines():
    first = audit("pooled")
    second = changed(first, ("layers.1.exposure.psnr", first["layers"][1]["exposure"]["psnr"] + 4.0))
    for layer in second["layers"]:
        layer["name"] = f"net.{layer['name']}"
    second["judgement"] = compared(first, second)
    third = changed(second, ("layers.1.exposure.psnr", second["layers"][1]["exposure"]["psnr"] + 4.0))
    for layer in third["layers"]:
        layer["name"] = f"ddp.{layer['name']}"
    last = compared(checked(second), third)
    prints = [
        next(a["fingerprint"] for a in judgement["alerts"] if a["rule"] == "layer-exposure")
        for judgement in (second["judgement"], last)
    ]
    assert prints[0] == prints[1]
    assert states(last)["layer-exposure", third["layers"][1]["name"]] == "worse"


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        ("tool.version", "9.9", "the baseline is of fl-audit 0.1.0, this audit of 9.9"),
        ("tool.preset", "deep", "the baseline took the preset fast, this audit deep"),
        ("tool.seed", 5, "the baseline took the seed 0, this audit 5"),
        ("tool.options.malicious_server", True, "malicious_server was none in the baseline, and is True"),
        ("protocol.batch", 4, "the protocol differs: batch was 1 in the baseline, and is 4"),
        ("protocol.trainable", ["head*"], "trainable was * in the baseline, and is head*"),
        ("model.input.height", 32, "clips were 4x3x16x16"),
        ("probes.0.sha256", "0" * 64, "is another clip under the same name"),
        ("probes.0.name", "mine", "only one of the two audits attacked mine, park_walker"),
        ("machine_cuts", [{"stage": "invert", "what": "spear", "limit": "time", "times": 2}], "was cut by its machine"),
        ("environment.device", "NVIDIA H200", "rounded differently (device cpu and NVIDIA H200)"),
    ],
)
def test_what_makes_audits_hard_to_compare_is_said(place, value, says):
    old = audit("pooled")
    warnings = compared(old, changed(old, (place, value)))["warnings"]
    assert [text for text in warnings if says in text], warnings


def test_what_another_machine_rounds_is_no_regression():
    old = audit("flat")
    found = compared(old, changed(shifted(old, 0.5), ("environment.device", "NVIDIA H200")))
    assert not set(states(found).values()) & {"new", "worse"}
    assert any("rounded differently" in text for text in found["warnings"])


def test_what_does_not_change_what_is_tried_is_no_warning():
    old = audit("pooled")
    new = changed(old, ("tool.options.device", "cuda"), ("tool.options.model", "b.onnx"), ("tool.audit_id", "x"))
    assert compared(old, new)["warnings"] == []


def test_regressions_need_a_baseline():
    with pytest.raises(UsageError, match="nothing to compare with; add --baseline"):
        judge(audit("pooled"), Policy(fail_on_regression=True))


def test_without_anything_asked_the_gate_is_the_verdicts():
    for name in ("fixed_positions", "learned_positions", "pooled", "flat"):
        results = audit(name)
        for fail_on in ("critical", "high", "medium", "low", "never"):
            own = judge(results, Policy(fail_on=fail_on))["exit_code"]
            assert own == (4 if results["verdict"]["word"] == "INCONCLUSIVE" else _expected(results, fail_on)), name
    assert judgement_of(audit("flat"))["exit_code"] == audit("flat")["verdict"]["exit_code"]


def _expected(results, fail_on):
    bands = ("none", "low", "medium", "high", "critical")
    if fail_on == "never":
        return 0
    return int(bands.index(results["severity"]["band"]) >= bands.index(fail_on))


@pytest.mark.parametrize(
    ("policy", "name", "code"),
    [
        ({"levels": {"clip-reconstruction": "low"}}, "flat", 0),
        ({"levels": {"clip-reconstruction": "off"}, "fail_on": "low"}, "flat", 1),  # labels are low
        ({"levels": {"clip-reconstruction": "off", "label-inference": "off"}, "fail_on": "low"}, "flat", 0),
        ({"levels": {"label-inference": "high"}}, "pooled", 4),
        ({"levels": {"label-inference": "high"}, "inconclusive": "pass"}, "pooled", 1),
        ({"inconclusive": "pass"}, "pooled", 0),
        ({"inconclusive": "new"}, "pooled", 4),
        ({"levels": {"inconclusive": "off"}}, "pooled", 0),
        ({"least_confidence": "high"}, "flat", 1),
    ],
)
def test_a_policy_is_applied_as_it_reads(policy, name, code):
    assert judge(audit(name), Policy(**policy))["exit_code"] == code


def test_an_audit_that_cannot_tell_is_a_step_back_only_from_pass_and_warn():
    warn = changed(audit("pooled"), ("verdict.word", "WARN"))
    for baseline, code in ((audit("pooled"), 0), (audit("flat"), 0), (warn, 4)):
        assert judge(audit("fixed_positions"), Policy(inconclusive="new"), baseline)["exit_code"] == code


CUT = [{"stage": "invert", "what": "least-squares-matching", "limit": "time", "times": 3}]


def test_an_audit_that_did_not_look_passes_no_comparison():
    old = audit("pooled")
    control = next(n for n, c in enumerate(old["controls"]) if c["kind"] == "positive")
    for policy in (Policy(inconclusive="new"), ONLY_CHANGES):
        assert judge(old, policy, old)["exit_code"] == 0
        for place, value in ((f"controls.{control}.passed", None), ("machine_cuts", CUT)):
            assert judge(changed(old, (place, value)), policy, old)["exit_code"] == 4
    fail = changed(audit("flat"), ("machine_cuts", CUT))
    assert judge(fail, ONLY_CHANGES, audit("flat"))["exit_code"] == 4
    assert judge(fail, Policy(fail_on_regression=True, inconclusive="pass"), audit("flat"))["exit_code"] == 1


def test_less_confidence_than_asked_is_no_pass():
    warn = changed(
        audit("pooled"),
        ("verdict.word", "WARN"),
        ("verdict.reasons", []),
        ("verdict.exit_code", 0),
        ("verdict.gate.passed", True),
        ("confidence.level", "medium"),
    )
    for least, code in (("low", 0), ("medium", 0), ("high", 4)):
        assert judge(warn, Policy(least_confidence=least))["exit_code"] == code


EDITS = {
    "an alert is dropped": lambda j: j["alerts"].pop(0),
    "an alert is called fixed": lambda j: j["alerts"][0].update(state="fixed"),
    "a severity is lowered": lambda j: j["alerts"][0]["severity"].update(score=0.5, band="low"),
    "the code is 0": lambda j: j.update(exit_code=0, passed=True),
    "passed alone": lambda j: j.update(passed=True),
    "nothing fails": lambda j: [a.update(fails=False) for a in j["alerts"]],
    "a waiver that is none": lambda j: j["alerts"][0].update(waiver=0),
    "another subject": lambda j: j["alerts"][0].update(subject="elsewhere"),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("baseline", [None, "pooled"])
def test_a_judgement_that_was_edited_is_not_rendered(edit, baseline):
    results = audit("flat")
    results["judgement"] = judge(results, Policy(), None if baseline is None else audit(baseline))
    assert judgement_of(checked(results))["exit_code"] == 1
    EDITS[edit](results["judgement"])
    with pytest.raises(UsageError, match="the judgement contradicts the findings"):
        judgement_of(results)


def test_judgements_of_all_kinds_agree_with_their_findings():
    names = ("fixed_positions", "learned_positions", "pooled", "flat")
    for name, old in itertools.product(names, (None, *names)):
        for policy in (
            Policy(),
            Policy(fail_on="low", inconclusive="pass"),
            Policy(levels={"label-inference": "high"}),
        ):
            results = audit(name)
            results["judgement"] = judge(results, policy, None if old is None else audit(old))
            assert judgement_of(results) == results["judgement"]


def test_an_audit_that_can_tell_again_does_not_say_that_it_cannot():
    told = judge(audit("learned_positions"), Policy(), audit("fixed_positions"))
    (alert,) = [a for a in told["alerts"] if a["rule"] == "inconclusive"]
    assert alert["state"] == "fixed"
    assert alert["message"].startswith("The audit can tell: ")
