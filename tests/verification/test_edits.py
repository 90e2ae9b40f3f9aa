"""No number and no word of a results.json can be edited unnoticed, and what follows from others cannot be forged."""

import copy
import json
from pathlib import Path

import edits
import pytest
from typer.testing import CliRunner

from auditor.cli.main import app
from auditor.errors import AuditError, UsageError
from auditor.report import write
from auditor.report.outputs import rendered
from auditor.results.protection.seal import sealed
from auditor.results.reading import read_results
from auditor.verification.conclusion import verify

STORED = Path(__file__).parents[1] / "gate" / "stored"


def caught(path):
    """Return what verify makes of a file: its word, or REFUSED where the form is wrong already."""
    try:
        return verify(path).word
    except UsageError:
        return "REFUSED"


def test_what_a_scan_wrote_is_verified(audited, folder):
    found = verify(folder(audited))
    assert found.word == "VERIFIED", found.checks
    assert len(found.checks) >= 7


@pytest.mark.parametrize("name", [*edits.FORGED, *edits.PLAIN])
def test_an_edit_is_caught_and_not_rendered(audited, folder, name):
    edited = copy.deepcopy(audited)
    ({**edits.FORGED, **edits.PLAIN}[name])(edited)
    assert edited != audited
    path = folder(edited)
    assert caught(path) in ("EDITED", "REFUSED")
    with pytest.raises(UsageError) as refused:
        read_results(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", edits.FORGED)
def test_a_forged_value_is_caught_although_the_file_was_sealed_again(audited, folder, name):
    forged = copy.deepcopy(audited)
    edits.FORGED[name](forged)
    assert caught(folder(sealed(forged))) in ("EDITED", "REFUSED")


@pytest.mark.parametrize("part", range(5))
def test_any_single_value_that_is_edited_is_caught(audited, folder, part):
    for seed in range(40 * part, 40 * part + 40):
        edited, place = edits.at_random(audited, seed)
        path = folder(edited)
        assert caught(path) in ("EDITED", "REFUSED"), place
        with pytest.raises(UsageError):
            read_results(path)


def test_words_that_only_look_alike_and_keys_that_are_there_twice_are_caught(audited, folder, tmp_path):
    text = folder(audited).read_text(encoding="ascii")
    path = tmp_path / "twice.json"
    path.write_text(text.replace('"verdict": {', '"verdict": {"word": "PASS",', 1), encoding="ascii")
    with pytest.raises(UsageError, match="twice"):
        verify(path)
    with pytest.raises(UsageError):
        read_results(path)
    path.write_text(text[: len(text) // 2], encoding="ascii")
    with pytest.raises(UsageError, match="broken off"):
        verify(path)


def test_without_a_seal_nothing_is_verified_and_writing_it_again_makes_it_no_better(audited, folder, tmp_path):
    bare = {name: value for name, value in audited.items() if name != "integrity"}
    path = folder(bare)
    assert verify(path).word == "INCOMPLETE"
    again = read_results(path)
    write(again, [tmp_path / "again.json"])
    assert verify(tmp_path / "again.json").word == "INCOMPLETE"
    assert "no digest" in rendered(again, tmp_path / "again.html").decode()


def test_a_reformatted_file_is_the_same_file(audited, tmp_path):
    path = tmp_path / "any name.txt"
    path.write_text(json.dumps(audited, indent=4, sort_keys=True), encoding="utf-8")
    assert verify(path).word == "VERIFIED"


@pytest.mark.parametrize("name", ["fixed_positions", "learned_positions", "pooled", "flat"])
def test_audits_of_other_nets_follow_from_themselves_and_out_of_order_they_do_not(folder, name):
    whole = read_results(STORED / f"{name}.json")
    assert verify(folder(sealed(whole))).word == "INCOMPLETE"  # stored without a seal
    whole["findings"].reverse()
    assert verify(folder(sealed(whole))).word == "EDITED"


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [("plain", 0, "VERIFIED"), ("edited", 1, "EDITED"), ("bare", 4, "INCOMPLETE"), ("missing", 2, "there is no")],
)
def test_codes_of_the_command(audited, folder, tmp_path, name, code, says):
    made = {"plain": audited, "edited": {**audited, "skipped": []}, "bare": {**audited, "integrity": None}}
    path = folder(made[name]) if name in made else tmp_path / "none.json"
    ran = CliRunner().invoke(app, ["verify", str(path)], standalone_mode=False)
    if isinstance(ran.exception, AuditError):
        assert (int(ran.exception.exit_code), says in str(ran.exception)) == (code, True)
    else:
        assert (int(ran.return_value), says in ran.output) == (code, True), ran.output


def test_report_and_gate_refuse_an_edited_file(audited, folder):
    edited = copy.deepcopy(audited)
    edits.PLAIN["hash of the model"](edited)
    path = folder(edited)
    for command in (["report", str(path), "-o", str(path.with_name("r.html"))], ["gate", str(path)]):
        ran = CliRunner().invoke(app, command, standalone_mode=False)
        assert isinstance(ran.exception, UsageError)
        assert "was edited after it was written (model: not as it was written)" in str(ran.exception)
    assert not path.with_name("r.html").exists()
