"""One judged audit of a net that leaks, for all tests of verification."""

import pytest
import story_nets
from short_scans import results_of, short

from auditor.gate.judge import judge
from auditor.gate.policy import Policy
from auditor.gate.waivers import read_waivers
from auditor.pipeline import ScanOptions
from auditor.report import write
from auditor.report.plain import plain, to_json
from auditor.results.reading import read_results

WAIVERS = """[[waiver]]
rule = "label-inference"
model = "*"
layer = "lab*"
reason = "labels are public"
owner = "me@example.org"
expires = 2998-12-31
"""


@pytest.fixture(scope="session")
def audited(tmp_path_factory):
    """A judged audit, by closed forms alone, as it is read again."""
    folder = tmp_path_factory.mktemp("audited")
    model = story_nets.exported(story_nets.transformer(learned=True), folder / "model.onnx")
    found = plain(results_of(ScanOptions(model=str(model)), short(40, ()), enhanced=1))
    (folder / "waivers.toml").write_text(WAIVERS, encoding="utf-8")
    found["judgement"] = judge(found, Policy(), None, read_waivers(folder / "waivers.toml"))
    write(found, [folder / "results.json"])
    return read_results(folder / "results.json")


@pytest.fixture
def folder(tmp_path):
    """Write results as they are, under a name; return the path."""

    def put(results, name="results.json"):
        path = tmp_path / name
        path.write_text(to_json(results), encoding="ascii")
        return path

    return put
