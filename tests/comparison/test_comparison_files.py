"""comparison.json and what is drawn from it: whole files, inert names, and a plot that says where models lie."""

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from comparison.fabricated import audit
from comparison.test_ranking import measured
from conformity import conforms
from record_samples import sample

from auditor.comparison.written import gate_of, ordered_blocks, recommendations, summary
from auditor.errors import UsageError
from auditor.report.comparison import comparison_summary, rendered_comparison, write_comparison
from auditor.report.comparison.cells import rows
from auditor.report.comparison.plot import plot
from auditor.results.comparison import ComparisonDocument
from auditor.results.encode import document
from auditor.results.reading import read_comparison

HOSTILE = "a|b`<script>alert(1)</script>\x1b[2J\nend.onnx"


@pytest.fixture
def results():
    found = [
        measured(HOSTILE, audit({"closed": (39.0, 41.0, 43.0)}), source="x.onnx"),
        measured("pooled", audit({"search": (3.0, 4.0, 5.0)}, word="WARN")),
        measured("broken", note="it cannot be built"),
    ]
    blocks = [
        replace(b, parameters=10 ** (i + 3), operations=10 ** (i + 6)) for i, b in enumerate(ordered_blocks(found))
    ]
    advice = recommendations(blocks)
    whole = replace(
        sample(ComparisonDocument),
        candidates=tuple(blocks),
        recommendations=advice,
        summary=summary(blocks, advice),
        gate=gate_of(blocks, "high"),
        baseline=HOSTILE,
    )
    return document(whole)


def test_the_document_keeps_its_form_and_is_read_again(results, tmp_path):
    conforms(results, "comparison")
    write_comparison(results, [tmp_path / "c.json"])
    assert read_comparison(tmp_path / "c.json") == json.loads(json.dumps(results))
    broken = {**results, "candidates": [{**results["candidates"][0], "leakage": "much"}]}
    (tmp_path / "c.json").write_text(json.dumps(broken))
    with pytest.raises(UsageError, match="leakage"):
        read_comparison(tmp_path / "c.json")
    assert read_comparison(tmp_path / "none.json") is None


def test_every_format_tells_order_effect_and_what_was_not_measured(results, tmp_path):
    texts = {kind: rendered_comparison(results, tmp_path / f"c{kind}").decode() for kind in (".html", ".md")}
    texts["terminal"] = comparison_summary(results)
    for kind, text in texts.items():
        assert "FAIL" in text, kind
        assert "36.0 to 46.0" in text, kind
        assert "it cannot be built" in text, kind
        assert "by 37.0 dB" in text, kind
        assert "safe" not in text.lower().split("unsafe-inline")[0], kind


def test_rows_stand_in_order_of_leakage(results):
    assert [(row.word, row.rank) for row in rows(results)] == [("FAIL", "1"), ("WARN", "2"), ("not measured", "—")]


def test_names_are_inert_in_every_format(results, tmp_path):
    for kind in (".html", ".md", ".svg"):
        text = rendered_comparison(results, tmp_path / f"c{kind}").decode()
        assert "<script>" not in text, kind
        assert "\x1b" not in text, kind
    assert "\x1b" not in comparison_summary(results)


def test_the_plot_stands_alone_and_puts_models_by_leakage_and_cost(results, tmp_path):
    drawn = plot(results)
    assert [m.name for m in drawn.marks] == [results["candidates"][0]["name"], "pooled"]
    first, second = drawn.marks
    assert first.y < second.y  # more leakage lies higher
    assert first.x < second.x  # more operations lie to the right
    assert first.high < first.y < first.low
    assert abs(first.label - second.label) >= 13.0
    svg = ElementTree.fromstring(rendered_comparison(results, tmp_path / "c.svg"))
    assert len(svg.findall(".//{http://www.w3.org/2000/svg}circle")) == 2


def test_a_file_appears_whole_or_not_at_all(results, tmp_path):
    (tmp_path / "taken.md").mkdir()
    with pytest.raises(UsageError, match="cannot write"):
        write_comparison(results, [tmp_path / "taken.md", tmp_path / "c.json"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.json", "taken.md"]


def test_the_pdf_holds_the_comparison_it_was_made_from(results, tmp_path):
    pypdf = pytest.importorskip("pypdf")
    complaints = write_comparison(results, [tmp_path / "c.pdf"])
    if not (tmp_path / "c.pdf").exists():
        pytest.skip(complaints[0])
    (attached,) = pypdf.PdfReader(tmp_path / "c.pdf").attachments.items()
    assert attached[0] == "comparison.json"
    assert json.loads(attached[1][0])["kind"] == "comparison"
