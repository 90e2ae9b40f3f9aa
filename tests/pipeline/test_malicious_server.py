"""The malicious server's what-if: what it measures, what it says, and that it counts for nothing in the verdict."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from bench_nets import CLASSES, SPEC, Transformer, pooled, seeded, target_of
from short_scans import scanning

from auditor.attack import PRESETS, LinearInversion
from auditor.federated import make_loss
from auditor.journal import journaling
from auditor.pipeline import ScanOptions, Silent, malicious, scan
from auditor.pipeline.context import set_up
from auditor.pipeline.documents.asides import malicious_block
from auditor.pipeline.malicious import malicious_server
from auditor.pipeline.workers import Processes, begin_early, working
from auditor.probe import Galleries, canary, shipped_probes
from auditor.records import FederatedProtocol
from auditor.report import read_results, write
from auditor.report.front.plain_words import plainly
from auditor.report.markdown import to_markdown
from auditor.report.page import render
from auditor.results.encode import document

MODELS = Path(__file__).parent.parent / "models_for_scans.py"
# One cheap attack: what is looked at comes after it.
TINY = dataclasses.replace(
    PRESETS["fast"], name="tiny", attacks=(LinearInversion(),), steps=60, seconds=600.0, probes=1
)


@pytest.fixture(scope="module", autouse=True)
def tiny_preset():
    PRESETS["tiny"] = TINY
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(malicious, "MOST_STEPS", 60)
        yield
    del PRESETS["tiny"]


def audit(name, **change):
    options = ScanOptions(model=f"{MODELS}:{name}", input_shape=(3, 8, 32, 32), preset="tiny", **change)
    with scanning(TINY, enhanced=0):
        return scan(options, Silent()).results


@pytest.fixture(scope="module")
def vivit():
    return audit("vivit", malicious_server=True)


@pytest.fixture(scope="module")
def vivit_equal():
    return small(Transformer, batch=3, labels="equal")


def small(make, seconds=300.0, **protocol):
    """The block alone, for a net at 4x16x16."""
    made = malicious_server(*attacked(make, **protocol), seconds, 0.01, Silent())
    return {"malicious_server": document(malicious_block(made))}


def attacked(make, **protocol):
    """What is attacked: a context, probes and a gallery."""
    target = target_of(seeded(make))
    loss = make_loss(protocol.get("loss", "cross-entropy"), target.output, CLASSES)
    context = set_up(target, FederatedProtocol(**protocol), torch.device("cpu"), 0, loss)
    probes = (*shipped_probes(SPEC, 1), canary(SPEC, 0))
    return context, probes, Galleries(SPEC, probes)[probes[0].name]


def by_name(results):
    return {m["name"]: m for m in results["malicious_server"]["manipulations"]}


def test_the_imprint_recovers_the_whole_batch(vivit):
    imprint = by_name(vivit)["imprint"]
    assert imprint["batch"] == 4
    assert imprint["exact"] == imprint["certified"] == 4
    assert imprint["grade"] == "EXACT"
    assert imprint["psnr"] > 60.0
    assert imprint["gain"] > imprint["honest_gain"] + 30.0


@pytest.mark.parametrize("name", ["vivit", "vivit_equal"])
def test_fishing_makes_a_batch_as_good_as_one_clip(name, request):
    fishing = by_name(request.getfixturevalue(name))["fishing"]
    assert fishing["share"] > 0.999
    # The patch embedding's closed form needs one clip, and now has one.
    assert fishing["grade"] == "EXACT"
    assert fishing["psnr"] > 50.0
    assert fishing["honest_gain"] < 6.0
    assert (fishing["rounds"] == 1) == (name == "vivit")


@pytest.mark.parametrize("name", ["vivit", "vivit_equal"])
def test_nulls_are_at_chance_and_changes_are_detectable(name, request):
    server = request.getfixturevalue(name)["malicious_server"]
    for m in server["manipulations"]:
        assert m["skipped"] is None
        assert m["null_at_chance"] is True
        assert m["null_gain"] < 1.0
        assert m["detected"] is True
        assert "detectable" in m["answer"]
    assert server["audited"]
    assert all(c["passed"] is not False for c in server["audited"])


def test_what_was_tried_is_not_said_to_be_untested(vivit):
    untested = vivit["protocol"]["threat_model"]["out_of_scope"]
    assert untested[0] == "a server that manipulates models in other ways than those tried beside the verdict"
    assert "in other ways than this report shows" in plainly(untested[0])
    assert vivit["malicious_server"]


def test_what_was_attacked_early_is_what_the_server_asks_for(tmp_path, monkeypatch):
    monkeypatch.setattr(malicious, "MOST_STEPS", 20)
    case = attacked(pooled)
    with journaling(tmp_path / "unfinished", "program") as parts:
        processes = Processes(parts, jobs=2)
        with processes.active(Silent()), working(processes):
            begin_early(malicious.malicious_ahead(*case, 300.0, 0.01))()
            before = set(parts.folder.glob("*.json"))
            made = malicious_server(*case, 300.0, 0.01, Silent())
            assert set(parts.folder.glob("*.json")) == before
            assert len(before) == 4  # the honest server, an imprint and its null, a clip that was fished for
    alone = malicious_server(*case, 300.0, 0.01, Silent())
    assert document(malicious_block(made)) == document(malicious_block(alone))
    assert not malicious.malicious_ahead(*case, 1.0, 0.01)  # too little work for all steps


@pytest.mark.slow
def test_the_verdict_is_that_of_the_honest_server(vivit):
    without = audit("vivit", malicious_server=False)
    assert without["malicious_server"] is None
    for key in ("findings", "severity", "verdict", "confidence", "actions", "controls"):
        ours, theirs = (json.loads(json.dumps(r[key])) for r in (vivit, without))
        for one in (ours, theirs):
            if key == "findings":
                for finding in one:
                    for result in finding["results"]:
                        result.pop("seconds")
                        result.pop("trace")
            if key == "controls":  # their wording holds measured seconds
                one[:] = [(c["name"], c["passed"]) for c in one]
        assert ours == theirs, key
    assert not any(f["attack"] in ("imprint", "fishing") for f in vivit["findings"])


def test_results_are_read_again_and_every_format_says_what_it_is(vivit, tmp_path):
    write(vivit, [tmp_path / "results.json"])
    assert read_results(tmp_path / "results.json")["malicious_server"]["threat_model"]["id"] == "F"
    for text in (to_markdown(vivit), render(vivit, printed=False), render(vivit, printed=True)):
        assert "What if the server were malicious?" in text
        assert "Threat model" in text
        assert "not counted" in text
        assert "detectable before training" in text
        assert "no guarantee" in text or "hide better" in text


def test_a_loss_that_cannot_be_baited_is_told_and_the_imprint_works_all_the_same():
    made = by_name(small(pooled, loss="mse", batch=2))
    assert made["fishing"]["skipped"]["because"] == "not-applicable"
    assert "cross-entropy" in made["fishing"]["skipped"]["reason"]
    assert made["imprint"]["exact"] == 2


def test_without_time_nothing_is_measured():
    for m in by_name(small(pooled, seconds=0.1)).values():
        assert m["skipped"]["because"] == "out-of-budget"
        assert m["answer"] == "the check was not made"


def test_without_time_for_a_descent_the_share_and_the_check_are_told(monkeypatch):
    monkeypatch.setattr(malicious, "MOST_STEPS", 10)
    fishing = by_name(small(Transformer, batch=2))["fishing"]
    assert fishing["skipped"]["because"] == "out-of-budget"
    assert fishing["share"] > 0.999
    assert fishing["detected"] is True


def test_a_head_that_clients_do_not_send_cannot_be_baited():
    made = by_name(small(pooled, trainable=("0.*",), batch=2))
    assert "head" in made["fishing"]["skipped"]["reason"]
    assert made["imprint"]["exact"] == 2


def test_nothing_tried_is_null():
    assert malicious_block(None) is None
