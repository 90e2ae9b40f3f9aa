"""What the report says of layers to keep back: the answer, the command that follows it, and what was tried."""

import pytest

from auditor.report.layers.keep_back import following, kept_back, tried_sets
from auditor.report.markdown import to_markdown
from auditor.report.page import render
from auditor.report.plain import plain

from .sample import VARIANTS


@pytest.fixture(scope="module")
def results():
    made = (make() for make in VARIANTS.values())
    return plain(next(one for one in made if (one.get("layer_attacks") or {}).get("withholding")))


def changed(results, **block):
    layers = results["layer_attacks"]
    return {**results, "layer_attacks": {**layers, "withholding": {**layers["withholding"], **block}}}


def test_the_answer_says_what_it_costs_and_what_it_did_to_the_picture_and_to_the_recursion(results):
    told = kept_back(results)
    assert "(4.0% of the numbers that are sent)" in told
    assert "falls from 35.0 dB (recognisable) to 17.2 dB (not shown)" in told
    assert "The recursion, which came down to layer1.0.conv1, does not begin." in told
    ended = {**results["layer_attacks"]["withholding"]["after"], "lowest": "layer4.1.conv2.weight"}
    assert "ends at layer4.1.conv2." in kept_back(changed(results, after=ended))


def test_every_set_is_one_row_with_its_trial_and_its_full_battery_the_smallest_first(results):
    first, second = tried_sets(results)
    assert (first.share, first.trial["psnr"], first.full, first.chosen) == (0.01, 28.0, None, False)
    assert (second.share, second.trial["psnr"], second.full["psnr"], second.chosen) == (0.04, 15.0, 17.2, True)
    assert second.last is second.full


def test_the_command_audits_what_is_left_and_nothing_else_differs(results):
    tool = {
        **results["tool"],
        "command": ["fl-audit", "scan", "a b.onnx", "--layers", "all", "--seed=3", "-o", "r.pdf"],
    }
    assert following({**results, "tool": tool}) == "fl-audit scan 'a b.onnx' --trainable 'head.*' --trainable 'stem.*'"
    nobody = {**results, "tool": {**tool, "command": ["python", "-m", "study"]}}
    assert following(nobody) == ""
    assert following(changed(results, trainable=[])) == ""


def test_page_and_markdown_show_the_answer_the_command_and_the_table(results):
    page = " ".join(render(results, printed=False).split())
    assert "the answer" in page
    assert "with twice the work that it had for the whole update" in page
    assert "None of these layers can be sent after all" in page
    assert "--trainable &#39;head.*&#39;" in page
    assert "To confirm: `fl-audit scan" in to_markdown(results)


def test_where_there_is_none_the_page_says_so_and_what_was_tried(results):
    tried = "2 sets were tried, of up to 4.0% of the numbers that are sent"
    sentence = f"No set of layers to keep back was found: the time was up; {tried}."
    none = changed(results, layers=[], after=None, sentence=sentence, trainable=[])
    assert kept_back(none) == "No set of layers to keep back was found."
    page = " ".join(render(none, printed=False).split())
    assert sentence in page
    assert "Sets of layers that were tried" in page
    assert "--trainable" not in page.split("Layer by layer")[1].split("Layers under attack")[0]


def test_where_nobody_looked_it_is_said_how_to_ask(results):
    sentence = "No set of layers to keep back was found: the time was up."
    none = changed(results, layers=[], after=None, sentence=sentence, trainable=[], steps=[])
    assert kept_back(none) == "No layers to keep back were looked for: give --layers, or a longer --max-time."
    assert sentence in " ".join(render(none, printed=False).split())
