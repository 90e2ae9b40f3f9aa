"""Results that earlier versions wrote: read, rendered and written again, or refused in one line."""

import copy
import json
import random
from pathlib import Path

import markupsafe
import pytest

from auditor.errors import UsageError
from auditor.report import page as pages
from auditor.report import read_results, write
from auditor.report.markdown import to_markdown
from auditor.report.page import to_html

FIXTURES = sorted((Path(__file__).parent / "schema_1").glob("*.json"))


@pytest.fixture(autouse=True)
def unread(monkeypatch):
    """Earlier versions measured the what-if's audited row anew: their pages may contradict themselves."""
    monkeypatch.setattr(pages, "render", pages.render.__wrapped__)


@pytest.fixture(params=FIXTURES, ids=lambda path: path.stem)
def old(request):
    return request.param


def test_there_are_fixtures_of_every_kind_of_scan():
    assert [path.stem for path in FIXTURES] == ["flat", "pooled", "two"]


def test_results_of_schema_1_are_read_and_rendered(old, tmp_path):
    results = read_results(old)
    assert results["schema"] == "fl-audit/results/2"
    page = to_html(results)
    assert results["verdict"]["word"] in page
    assert all(markupsafe.escape(f["title"]) in page for f in results["findings"])
    assert "Findings" in to_markdown(results)
    write(results, [tmp_path / "again.json"])
    again = read_results(tmp_path / "again.json")
    assert again.pop("integrity")
    assert again == results


def test_every_value_of_schema_1_is_kept_under_its_new_name(old):
    before, after = json.loads(old.read_bytes()), read_results(old)
    protocol, now = before.pop("protocol"), after.pop("protocol")
    assert now["bn"] == protocol.pop("batchnorm")
    local, trained = protocol.pop("local"), now.pop("local")
    if local is not None:
        assert (trained["local_epochs"], trained["local_batch"]) == (local["epochs"], local["batch"])
        assert trained["learning_rate"] == local["rate"]
    assert {name: now[name] for name in protocol} == protocol
    assert after.pop("unsealed")
    del before["schema"], after["schema"]
    assert after == before


def test_local_training_is_told_after_an_upgrade():
    page = to_html(read_results(FIXTURES[1]))
    assert "2 local epochs in batches of 2, 2 steps" in page
    assert "learning rate 0.02, momentum 0.5" in page


def test_a_mutilated_file_of_schema_1_is_refused_or_rendered(tmp_path):
    whole = json.loads(FIXTURES[1].read_bytes())
    whole["findings"] = whole["findings"][:1]
    places = [place for place in _places(whole) if place]
    chance = random.Random(1)
    refused = 0
    for _ in range(150):
        results = copy.deepcopy(whole)
        *parents, last = chance.choice(places)
        place = results
        for key in parents:
            place = place[key]
        if chance.random() < 0.3:
            del place[last]
        else:
            place[last] = chance.choice([None, [], {}, "x", -1, 10**400, True, [[]], 3.5, ["x"] * 3])
        (tmp_path / "r.json").write_text(json.dumps(results))
        refused += _refused(tmp_path / "r.json")
    assert refused > 50


def _refused(path):
    """Render a file; where it is refused, say whether that took one line."""
    try:
        to_html(read_results(path))
    except UsageError as error:
        return "\n" not in str(error)
    return False


def _places(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _places(item, (*path, key))
