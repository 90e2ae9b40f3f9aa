"""Files: read back as written, refused in one line, never half there."""

import copy
import json
import os
import random

import pytest

from auditor.errors import ExitCode, UsageError
from auditor.report import (
    check_outputs,
    read_results,
    results_digest,
    write,
)
from auditor.report.membership import membership_sentence
from auditor.report.page import render
from auditor.report.plain import plain
from auditor.results.protection.seal import content_digest
from auditor.results.reading import check_results

from .sample import VARIANTS, sample_results


def test_json_round_trip(variant, tmp_path):
    results = VARIANTS[variant]()
    write(results, [tmp_path / "results.json"])
    again = read_results(tmp_path / "results.json")
    assert content_digest(again) == again.pop("integrity")["digest"]
    assert again == results
    assert results_digest(again) == results_digest(results)


def test_what_json_cannot_hold_is_written_as_the_contract_says(tmp_path):
    results = sample_results(findings=1)
    results["findings"][0]["results"][0]["score"]["psnr"] = float("inf")
    results["exposure"]["rank_correlation"] = float("nan")
    results["tool"]["command"] = ("fl-audit", "scan")
    write(results, [tmp_path / "r.json"])
    again = read_results(tmp_path / "r.json")
    assert again["findings"][0]["results"][0]["score"]["psnr"] == "inf"
    assert again["exposure"]["rank_correlation"] is None
    assert again["tool"]["command"] == ["fl-audit", "scan"]


def test_digest_changes_with_one_value():
    results = sample_results(findings=1)
    before = results_digest(results)
    results["layers"][0]["elements"] += 1
    assert results_digest(results) != before
    assert results_digest(results) in render(plain(results), printed=False)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"schema": NaN}', "is not JSON"),
        (b"[]", "is not of schema"),
        (b'{"schema": "fl-audit/results/3"}', "is not of schema"),
        (b'{"schema": "fl-audit/results/2"}', "tool should be present"),
        (b'{"schema": "fl-audit/results/1"}', "tool should be present"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(content, says, tmp_path):
    (tmp_path / "r.json").write_bytes(content)
    with pytest.raises(UsageError, match=says) as caught:
        read_results(tmp_path / "r.json")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == ExitCode.USAGE


def test_a_missing_file_is_refused_in_one_line(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        read_results(tmp_path / "none.json")


OPTIONAL = {"references", "membership", "layer_attacks", "most_like"}


def test_every_missing_top_level_key_is_named():
    for key in sample_results(findings=1).keys() - OPTIONAL:
        results = sample_results(findings=1)
        del results[key]
        with pytest.raises(UsageError, match=key):
            check_results(results)


def _places(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _places(item, (*path, key))


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_mutilated_file_is_refused_or_rendered_but_never_a_traceback(seed):
    whole = sample_results("FAIL", layers=3, findings=1, frames=2)
    whole["findings"][0]["results"] = whole["findings"][0]["results"][:1]
    places = [p for p in _places(whole) if p]
    chance = random.Random(seed)
    for _ in range(200):
        results = copy.deepcopy(whole)
        *parents, last = chance.choice(places)
        place = results
        for key in parents:
            place = place[key]
        if chance.random() < 0.3:
            del place[last]
        else:
            place[last] = chance.choice([None, [], {}, "x", "", -1, 10**400, 1e200, True, [[]], 3.5, ["x"] * 3, 0])
        refusal = _refusal(results)
        if refusal is None:
            render(results, printed=False)
        else:
            assert "\n" not in refusal


def _refusal(results):
    try:
        check_results(results)
    except UsageError as error:
        return str(error)
    return None


def test_a_failure_while_writing_leaves_the_old_file(monkeypatch, tmp_path):
    path = tmp_path / "results.json"
    path.write_text("old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UsageError, match="No space left"):
        write(sample_results(findings=1), [path])
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["results.json"]


def test_outputs_are_checked_before_the_scan(tmp_path):
    check_outputs([tmp_path / "new" / "a.json", tmp_path / "a.html", tmp_path / "a.pdf", tmp_path / "a.MD"])
    with pytest.raises(UsageError, match=r"\.json, \.html, .*\.md, \.pdf"):
        check_outputs([tmp_path / "a.docx"])
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        check_outputs([tmp_path / "file" / "a.json"])
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        check_outputs([tmp_path / "folder.html"])


def test_write_chooses_by_suffix(tmp_path):
    paths = [tmp_path / f"report{suffix}" for suffix in (".json", ".html", ".md", ".pdf")]
    assert write(VARIANTS["empty"](), paths) == ()
    assert [path.read_bytes()[:5] for path in paths] == [b'{\n "s', b"<!doc", b"## fl", b"%PDF-"]
    with pytest.raises(UsageError, match="cannot tell the kind"):
        write(sample_results(findings=1), [tmp_path / "report"])


def test_invalid_results_are_not_written(tmp_path):
    results = sample_results(findings=1)
    del results["verdict"]["word"]
    with pytest.raises(UsageError, match=r"verdict\.word"):
        write(results, [tmp_path / "a.html"])
    assert os.listdir(tmp_path) == []


def test_markdown_keeps_hostile_names_inert(tmp_path):
    write(VARIANTS["hostile"](), [tmp_path / "a.md"])
    text = (tmp_path / "a.md").read_text()
    assert "<script" not in text
    assert "http://" not in text
    assert "leakage demonstrated" in text


def test_markdown_does_not_call_the_blind_guess_a_control_that_did_not_run(tmp_path):
    results = sample_results(findings=1)
    for control in results["controls"]:
        if control["kind"] == "blind":
            control["passed"] = None
    write(results, [tmp_path / "a.md"])
    rows = [line for line in (tmp_path / "a.md").read_text().splitlines() if line.startswith("| guess without")]
    assert [row.split("|")[2].strip() for row in rows] == ["for reference"]


def test_markdown_tells_of_enhancement_and_retrieval(tmp_path):
    write(sample_results(), [tmp_path / "a.md"])
    text = (tmp_path / "a.md").read_text()
    assert "### What enhancement added" in text
    assert "recovered detail" in text
    assert "### Clips found in a gallery" in text
    assert "not independent evidence" in text
    older = sample_results()
    for f in older["findings"]:
        del f["retrieval"]
        for r in f["results"]:
            r["enhanced"] = r["enhanced"][1:]  # as versions before wrote it
    write(older, [tmp_path / "b.md"])
    assert "gallery" not in (tmp_path / "b.md").read_text().split("### Actions")[0].split("### Controls")[1]


def test_a_score_without_any_one_optional_number_renders():
    optional = ("copy", "motion_correlation", "rank_same_scene", "same_scene", "embedding_rank")
    optional += ("perceptual", "perceptual_blind", "lpips", "lpips_blind")
    for key in optional:
        results = sample_results(findings=2, layers=2, frames=2)
        for r in (r for f in results["findings"] for r in f["results"]):
            r["score"].pop(key, None)
            r["null"].pop(key, None)
        check_results(results)
        assert "Findings" in render(results, printed=False)


def test_membership_tells_where_the_hardest_frames_were_not_asked():
    results = sample_results(findings=1)
    assert "were not measured" not in membership_sentence(results)
    clip = results["membership"]["clips"][0]
    clip["frames"] = [f for f in clip["frames"] if f["kind"] != "same camera"]
    assert "errors on frames of the same camera at another time were not measured" in membership_sentence(results)
    assert "Errors on frames of the same camera at another time were not measured." in render(results, printed=False)


def test_nothing_heavy_is_imported():
    import subprocess
    import sys

    code = "import sys, auditor.report; print({'torch', 'weasyprint'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_results_without_change():
    results = sample_results(findings=1)
    before = json.dumps(results, sort_keys=True)
    render(plain(results), printed=False)
    assert json.dumps(results, sort_keys=True) == before
