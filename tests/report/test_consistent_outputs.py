"""What a reader sees on page one, in the terminal and in Markdown says the same thing."""

import copy
import io
import re

import pytest
from rich.console import Console

from auditor.report import terminal_summary
from auditor.report.headline import best, headlines
from auditor.report.markdown import to_markdown
from auditor.report.plain import plain

from .sample import VARIANTS, sample_results


def screen(results, width: int = 80) -> str:
    stream = io.StringIO()
    terminal_summary(results, Console(file=stream, width=width, legacy_windows=False))
    return stream.getvalue()


def test_every_output_has_the_same_verdict_and_the_same_short_hash(variant, page) -> None:
    results = plain(VARIANTS[variant]())
    word, digest = results["verdict"]["word"], results["model"]["sha256"]
    for text in (page, screen(results), to_markdown(results)):
        assert word in text
        assert not [other for other in {"FAIL", "WARN", "PASS"} - {word} if re.search(rf"fl-audit: {other}", text)]
        if len(digest) == 64 and digest.isalnum():
            found = set(re.findall(rf"\\b{digest[:8]}[0-9a-f]*", text))
            assert found <= {digest[:12], digest}, found


def test_no_control_is_said_to_fail_beside_none_that_failed(variant, page) -> None:
    for text in (page, screen(plain(VARIANTS[variant]())), to_markdown(plain(VARIANTS[variant]()))):
        assert not ("control failed" in text.lower() and " 0 failed" in text)


def test_a_recovered_scene_comes_before_a_canary_and_a_gist_does_not_come_before_a_recovered_canary() -> None:
    results = plain(sample_results("FAIL", frames=4, findings=1))
    canary = next(p["name"] for p in results["probes"] if p["kind"] == "canary")
    (finding,) = results["findings"]
    scene = next(r for r in finding["results"] if r["probe"] != canary)
    noise = copy.deepcopy(scene) | {"probe": canary, "grade": "EXACT"}
    finding["results"] = [noise, scene | {"grade": "RECOGNISABLE"}]
    assert best(results).result["probe"] == scene["probe"]
    finding["results"] = [noise, scene | {"grade": "GIST"}]
    assert best(results).result["probe"] == canary


def test_the_picture_tile_does_not_mix_attackers_with_and_without_frames() -> None:
    results = plain(sample_results("FAIL", frames=4, findings=1))
    (finding,) = results["findings"]
    before = headlines(results)[0]
    with_frames = copy.deepcopy(finding) | {"reference_frames": 3, "grade": "GIST"}
    for run in with_frames["results"]:
        run["grade"] = "NOT_SHOWN"
        run["score"]["gain"] = -9.0
    results["findings"].append(with_frames)
    assert headlines(results)[0] == before


@pytest.mark.parametrize("width", [60, 80])
def test_the_measured_effect_of_an_action_is_whole(width) -> None:
    results = plain(sample_results("FAIL"))
    effect = "attack gain +19.1 dB to +14.5 dB on one clip, by linear-input where spear no longer applies (measured)"
    results["actions"][0] |= {"effect": effect}
    assert effect in " ".join(screen(results, width).split())


def test_markdown_reads_as_text() -> None:
    results = plain(sample_results("FAIL"))
    results["verdict"]["sentence"] = "Gain +3.5 dB (at most 10.0): scene-1 of a_b, see run 2."
    text = to_markdown(results)
    assert "Gain +3.5 dB (at most 10.0): scene-1 of a_b, see run 2." in text
    results["verdict"]["sentence"] = (
        "see www.evil.example, http://evil.example, mail@evil.example, #12, <b>, [x](y), `c`"
    )
    hostile = to_markdown(results)
    assert "www.evil" not in hostile
    assert "http://" not in hostile
    assert "mail@" not in hostile
    assert " #12" not in hostile
    assert "<b>" not in hostile
    assert "\\[x\\]" in hostile
    assert "\\`c\\`" in hostile
