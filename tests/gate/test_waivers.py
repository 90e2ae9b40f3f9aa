"""Waivers: all of it is required, it holds until its day, for its model, and nothing is hidden."""

import datetime

import pytest
from audits import audit

from auditor.errors import UsageError
from auditor.gate.judge import judge
from auditor.gate.policy import Policy
from auditor.gate.waivers import read_waivers

TODAY = datetime.date(2026, 11, 28)
WHOLE = {
    "rule": '"clip-reconstruction"',
    "model": '"*"',
    "layer": '"*"',
    "reason": '"the pilot runs on staged clips"',
    "owner": '"privacy@example.org"',
    "expires": "2026-12-31",
}


def waivers_of(tmp_path, **changes):
    lines = [f"{name} = {value}" for name, value in {**WHOLE, **changes}.items() if value is not None]
    path = tmp_path / "waivers.toml"
    path.write_text("\n".join(["[[waiver]]", *lines]), encoding="utf-8")
    return read_waivers(path)


def judged(waivers, name="learned_positions", today=TODAY, policy=None, baseline=None):
    return judge(audit(name), policy or Policy(), baseline, waivers, today)


@pytest.mark.parametrize("name", WHOLE)
def test_every_key_is_required(tmp_path, name):
    with pytest.raises(UsageError, match=f"has no {name}; give all of rule, model, layer, reason, owner, expires"):
        waivers_of(tmp_path, **{name: None})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"reason": '""'}, "reason is no text, or empty"),
        ({"owner": "7"}, "owner is no text, or empty"),
        ({"rule": '"clip-reconstuction"'}, "did you mean clip-reconstruction?"),
        ({"expires": '"soon"'}, r"expires is no day \(soon\); write e.g. expires = 2027-03-31"),
        ({"expires": "true"}, "expires is no day"),
        ({"exires": "2026-12-31"}, r"'exires' is unknown \(did you mean expires\?\)"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, changes, says):
    with pytest.raises(UsageError, match=says) as raised:
        waivers_of(tmp_path, **changes)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[[waiver]\n", "is no TOML"),
        (b"\xff\xfe", "is no text in UTF-8"),
        (b"waiver = 3\n", "waiver is no list of tables"),
        (b"[[waivers]]\n", r"'waivers' is unknown \(did you mean waiver\?\)"),
        (b'"\\u001b[31m" = 1\n', r"'\[31m' is unknown"),
    ],
)
def test_files_that_are_none_are_refused(tmp_path, content, says):
    (tmp_path / "w.toml").write_bytes(content)
    with pytest.raises(UsageError, match=says):
        read_waivers(tmp_path / "w.toml")
    with pytest.raises(UsageError, match="cannot read"):
        read_waivers(tmp_path / "none.toml")


def test_a_waived_alert_fails_nothing_and_stays_in_sight(tmp_path):
    assert judged(())["exit_code"] == 1
    found = judged(waivers_of(tmp_path))
    assert (found["passed"], found["exit_code"]) == (True, 0)
    waived = [a for a in found["alerts"] if a["waiver"] == 0]
    assert {a["rule"] for a in waived} == {"clip-reconstruction"}
    assert found["waivers"][0]["state"] == "used"
    assert found["waivers"][0]["alerts"] == len(waived) > 0
    assert len(found["alerts"]) == len(judged(())["alerts"])


def test_it_holds_through_its_last_day_and_reopens_after(tmp_path):
    waivers = waivers_of(tmp_path, expires="2026-11-28")
    assert judged(waivers)["exit_code"] == 0
    late = judged(waivers, today=datetime.date(2026, 11, 29))
    assert late["exit_code"] == 1
    assert late["waivers"][0]["state"] == "expired"
    assert any("expired on 2026-11-28: what it covered is open again" in text for text in late["warnings"])


@pytest.mark.parametrize(
    ("scope", "code", "state"),
    [
        ({"model": '"vit*"'}, 0, "used"),
        ({"model": '"resnet*"'}, 1, "elsewhere"),
        ({"model": "SHA"}, 0, "used"),
        ({"model": '"000000000000"'}, 1, "elsewhere"),
        ({"layer": '"closed-form*"'}, 1, "used"),
        ({"layer": '"recursion"'}, 1, "unused"),
        ({"rule": '"label-inference"'}, 1, "used"),
    ],
)
def test_its_scope_is_what_it_says(tmp_path, scope, code, state):
    sha = audit("learned_positions")["model"]["sha256"]
    scope = {name: f'"{sha[:12]}"' if value == "SHA" else value for name, value in scope.items()}
    found = judged(waivers_of(tmp_path, **scope))
    assert (found["exit_code"], found["waivers"][0]["state"]) == (code, state)
    assert any("covers nothing: remove it" in text for text in found["warnings"]) == (state == "unused")


@pytest.mark.parametrize("written", [lambda sha: sha[:12].upper(), lambda sha: sha.upper()])
def test_digits_of_a_hash_may_be_capitals(tmp_path, written):
    sha = audit("learned_positions")["model"]["sha256"]
    assert judged(waivers_of(tmp_path, model=f'"{written(sha)}"'))["waivers"][0]["state"] == "used"


@pytest.mark.parametrize("digits", [6, 8, 11])
def test_too_few_digits_of_a_hash_cover_nothing_and_say_so(tmp_path, digits):
    sha = audit("learned_positions")["model"]["sha256"]
    found = judged(waivers_of(tmp_path, model=f'"{sha[:digits]}"'))
    assert (found["exit_code"], found["waivers"][0]["state"]) == (1, "unused")
    assert any(text.endswith("covers nothing: give 12") for text in found["warnings"])


def test_an_unused_waiver_of_a_model_with_a_name_of_such_digits_is_no_hash(tmp_path):
    results = audit("learned_positions")
    results["model"]["name"] = "facade"
    waivers = waivers_of(tmp_path, model='"facade"', layer='"nowhere"')
    found = judge(results, Policy(), None, waivers, today=TODAY)
    assert found["waivers"][0]["state"] == "unused"
    assert any("covers nothing: remove it" in text for text in found["warnings"])


def test_a_waiver_of_the_inconclusive_lets_it_pass(tmp_path):
    assert judged((), "fixed_positions")["exit_code"] == 4
    assert judged(waivers_of(tmp_path, rule='"inconclusive"'), "fixed_positions")["exit_code"] == 0


def test_a_new_alert_may_be_waived_and_one_that_got_worse_may_not(tmp_path):
    waivers = waivers_of(tmp_path)
    policy = Policy(
        fail_on="never", fail_on_regression=True, levels={"update-exposure": "off", "layer-exposure": "off"}
    )
    assert judged(waivers, policy=policy, baseline=audit("fixed_positions"))["exit_code"] == 0
    weaker = audit("learned_positions")
    for finding in weaker["findings"]:
        for result in finding["results"]:
            result["score"]["psnr"] -= 8.0
    found = judged(waivers, policy=policy, baseline=weaker)
    assert found["exit_code"] == 1
    assert any("is worse" in reason for reason in found["reasons"])
